"""From a data config to the source it describes."""

import dataclasses
from dataclasses import MISSING
from pathlib import Path
from typing import Any, TypeAlias, get_args

from harope.lab.data.captioned.base import CaptionedDataset
from harope.lab.data.captioned.coco import CocoDataConfig, open_coco
from harope.lab.data.captioned.emoji import EmojiDataConfig, open_emoji
from harope.lab.data.captioned.folder import CaptionedFolderDataConfig, open_captioned_folder
from harope.lab.data.captioned.hub import HubDataConfig, open_hub
from harope.lab.data.captioned.scenes import CaptionedScenesDataConfig, CaptionedScenesDataset
from harope.lab.data.captioned.webdataset import TarShardDataset, WebDatasetDataConfig
from harope.lab.data.dataset import FiniteLabelledDataset, Source
from harope.lab.data.labelled.digits import DigitsDataConfig, DigitsDataset
from harope.lab.data.labelled.folder import FolderDataConfig, ImageFolderDataset
from harope.lab.data.labelled.idx import IdxDataConfig, IdxDataset
from harope.lab.data.labelled.scenes import ScenesDataConfig, ScenesDataset
from harope.lab.data.latents.captioned import CaptionedLatentsDataConfig, CaptionedLatentsDataset
from harope.lab.data.latents.files import LatentFilesDataset, LatentPairDataset, LatentsDataConfig
from harope.lab.data.latents.shards import LatentShardDataset

DataConfig: TypeAlias = (
    ScenesDataConfig | IdxDataConfig | DigitsDataConfig | FolderDataConfig | LatentsDataConfig
)
"""Every data config with classes; the field ``kind`` tells them apart."""

CaptionedDataConfig: TypeAlias = (
    CaptionedScenesDataConfig
    | CaptionedFolderDataConfig
    | WebDatasetDataConfig
    | HubDataConfig
    | CocoDataConfig
    | EmojiDataConfig
    | CaptionedLatentsDataConfig
)
"""Every data config with captions; the field ``kind`` tells them apart."""


def open_dataset(config: DataConfig, seed: int) -> Source:
    """Open the data that ``config`` describes, drawn in the order and with the noise of ``seed``.

    Raises ValueError or FileNotFoundError, naming the file, where the data cannot be read.
    """
    match config:
        case ScenesDataConfig():
            return ScenesDataset(config.image_size, seed)
        case IdxDataConfig():
            return IdxDataset(config.root, config.split, seed=seed, pad_to=config.pad_to)
        case DigitsDataConfig():
            return DigitsDataset(seed, config.split)
        case FolderDataConfig():
            return ImageFolderDataset(
                config.root,
                config.image_size,
                seed,
                random_flip=config.random_flip,
                random_crop=config.random_crop,
            )
        case LatentsDataConfig():
            return _open_latents(config, seed)


def create_captioned_config(kind: str, **fields: Any) -> CaptionedDataConfig:
    """The captioned config of this kind. ValueError for an unknown kind or field."""
    classes = {config.kind: config for config in get_args(CaptionedDataConfig)}
    if kind not in classes:
        raise ValueError(f"kind {kind!r} is not known: choose one of {', '.join(classes)}")
    known = {field.name: field.default for field in dataclasses.fields(classes[kind])}
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise ValueError(f"{kind} has no field {unknown[0]!r}: it has {', '.join(known)}")
    missing = [name for name, default in known.items() if default is MISSING and name not in fields]
    if missing:
        raise ValueError(f"{kind} needs the field {missing[0]!r}: give it")
    return classes[kind](**fields)


def open_captioned_dataset(config: CaptionedDataConfig, seed: int) -> CaptionedDataset:
    """Open the captioned data that ``config`` describes, drawn in the order of ``seed``.

    All are finite (``FiniteCaptionedDataset``) but the scenes. Raises ValueError or
    FileNotFoundError, naming the file, where the data cannot be read.
    """
    match config:
        case CaptionedScenesDataConfig():
            return CaptionedScenesDataset(config.image_size, seed)
        case CaptionedFolderDataConfig():
            return open_captioned_folder(config, seed)
        case WebDatasetDataConfig():
            return TarShardDataset(config.root, config.image_size, seed)
        case HubDataConfig():
            return open_hub(config, seed)
        case CocoDataConfig():
            return open_coco(config, seed)
        case EmojiDataConfig():
            return open_emoji(config, seed)
        case CaptionedLatentsDataConfig():
            return CaptionedLatentsDataset(config.root, seed)


def _open_latents(config: LatentsDataConfig, seed: int) -> FiniteLabelledDataset:
    if config.root is not None:
        return LatentShardDataset(config.root, seed, config.num_classes)
    assert config.features is not None
    assert config.labels is not None
    source = LatentFilesDataset if Path(config.features).is_dir() else LatentPairDataset
    return source(config.features, config.labels, seed, config.num_classes)

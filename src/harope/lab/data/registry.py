"""From a data config to the source it describes."""

import dataclasses
from dataclasses import MISSING
from pathlib import Path
from typing import Any, TypeAlias, get_args

from harope.lab.data.captioned.base import CaptionedSource
from harope.lab.data.captioned.coco import CocoData, open_coco
from harope.lab.data.captioned.emoji import EmojiData, open_emoji
from harope.lab.data.captioned.folder import CaptionedFolderData, open_captioned_folder
from harope.lab.data.captioned.hub import HubData, open_hub
from harope.lab.data.captioned.scenes import CaptionedScenesData, CaptionedScenesSource
from harope.lab.data.captioned.webdataset import WebDatasetData, WebDatasetSource
from harope.lab.data.dataset import FiniteSource, Source
from harope.lab.data.labelled.digits import DigitsData, DigitsSource
from harope.lab.data.labelled.folder import FolderData, ImageFolderSource
from harope.lab.data.labelled.idx import IdxData, IdxSource
from harope.lab.data.labelled.scenes import ScenesData, ScenesSource
from harope.lab.data.latents.captioned import CaptionedLatentsData, CaptionedLatentsSource
from harope.lab.data.latents.files import LatentFilesSource, LatentPairSource, LatentsData
from harope.lab.data.latents.shards import LatentShardSource

DataConfig: TypeAlias = ScenesData | IdxData | DigitsData | FolderData | LatentsData
"""Every data config with classes; the field ``kind`` tells them apart."""

CaptionedDataConfig: TypeAlias = (
    CaptionedScenesData
    | CaptionedFolderData
    | WebDatasetData
    | HubData
    | CocoData
    | EmojiData
    | CaptionedLatentsData
)
"""Every data config with captions; the field ``kind`` tells them apart."""


def open_source(config: DataConfig, seed: int) -> Source:
    """Open the data that ``config`` describes, drawn in the order and with the noise of ``seed``.

    Raises ValueError or FileNotFoundError, naming the file, where the data cannot be read.
    """
    match config:
        case ScenesData():
            return ScenesSource(config.image_size, seed)
        case IdxData():
            return IdxSource(config.root, config.split, seed=seed, pad_to=config.pad_to)
        case DigitsData():
            return DigitsSource(seed, config.split)
        case FolderData():
            return ImageFolderSource(
                config.root,
                config.image_size,
                seed,
                random_flip=config.random_flip,
                random_crop=config.random_crop,
            )
        case LatentsData():
            return _open_latents(config, seed)


def captioned_config(kind: str, **fields: Any) -> CaptionedDataConfig:
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


def open_captioned(config: CaptionedDataConfig, seed: int) -> CaptionedSource:
    """Open the captioned data that ``config`` describes, drawn in the order of ``seed``.

    All are finite (``FiniteCaptionedSource``) but the scenes. Raises ValueError or
    FileNotFoundError, naming the file, where the data cannot be read.
    """
    match config:
        case CaptionedScenesData():
            return CaptionedScenesSource(config.image_size, seed)
        case CaptionedFolderData():
            return open_captioned_folder(config, seed)
        case WebDatasetData():
            return WebDatasetSource(config.root, config.image_size, seed)
        case HubData():
            return open_hub(config, seed)
        case CocoData():
            return open_coco(config, seed)
        case EmojiData():
            return open_emoji(config, seed)
        case CaptionedLatentsData():
            return CaptionedLatentsSource(config.root, seed)


def _open_latents(config: LatentsData, seed: int) -> FiniteSource:
    if config.root is not None:
        return LatentShardSource(config.root, seed, config.num_classes)
    assert config.features is not None
    assert config.labels is not None
    source = LatentFilesSource if Path(config.features).is_dir() else LatentPairSource
    return source(config.features, config.labels, seed, config.num_classes)

"""Opening the dataset that a data config describes."""

import dataclasses
from contextlib import suppress
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any, TypeAlias, get_args

from harope._utils.json_files import validate
from harope.lab.data.captioned.base import CaptionedDataset
from harope.lab.data.captioned.coco import CocoDataConfig, open_coco
from harope.lab.data.captioned.emoji import EmojiDataConfig, open_emoji
from harope.lab.data.captioned.folder import CaptionedFolderDataConfig, open_captioned_folder
from harope.lab.data.captioned.hub import HubDataConfig, open_hub
from harope.lab.data.captioned.scenes import CaptionedScenesDataConfig, CaptionedScenesDataset
from harope.lab.data.captioned.stream import StreamDataConfig, open_stream
from harope.lab.data.captioned.webdataset import TarShardDataset, WebDatasetDataConfig
from harope.lab.data.dataset import FiniteLabelledDataset, LabelledDataset
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
"""Config of any labelled dataset; the field `kind` distinguishes them."""

CaptionedDataConfig: TypeAlias = (
    CaptionedScenesDataConfig
    | CaptionedFolderDataConfig
    | WebDatasetDataConfig
    | HubDataConfig
    | StreamDataConfig
    | CocoDataConfig
    | EmojiDataConfig
    | CaptionedLatentsDataConfig
)
"""Config of any captioned dataset; the field `kind` distinguishes them."""


VALIDATION_SEED = 2**31 - 1
"""Seed of held-out scenes; a training of this seed has the next one."""


def open_dataset(config: DataConfig, seed: int) -> LabelledDataset:
    """Open the labelled dataset that a config describes.

    Args:
        config: Which data to read, and how.
        seed: Seed of the order of the samples and of their augmentations.

    Returns:
        The dataset: a `FiniteLabelledDataset`, except for the endless scenes.

    Raises:
        ValueError: If the data is invalid; the message names the file.
        FileNotFoundError: If a file is missing.
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
                max_left_out=config.max_left_out,
                split=config.split,
                held_out_share=config.held_out_share,
            )
        case LatentsDataConfig():
            return _open_latents(config, seed)


def open_validation_data(config: DataConfig, seed: int) -> LabelledDataset | None:
    """Open the held-out images that belong to training data.

    Args:
        config: Training data.
        seed: Seed of the training data.

    Returns:
        Scenes of another seed, or the test part of data whose training part is used; None if the
        data has no held-out images.
    """
    match config:
        case ScenesDataConfig():
            return ScenesDataset(config.image_size, _validation_seed(seed))
        case (
            FolderDataConfig(split="train")
            | IdxDataConfig(split="train")
            | DigitsDataConfig(split="train")
        ):
            # Test files need not be there.
            with suppress(FileNotFoundError):
                return open_dataset(divide_data(config)[1], seed)
    return None


def open_captioned_validation_data(
    config: CaptionedDataConfig, seed: int
) -> CaptionedDataset | None:
    """Open the held-out images that belong to captioned training data.

    Args:
        config: Training data.
        seed: Seed of the training data.

    Returns:
        Scenes of another seed; None for all other data, which has no held-out images.
    """
    if isinstance(config, CaptionedScenesDataConfig):
        return CaptionedScenesDataset(config.image_size, _validation_seed(seed))
    return None


def _validation_seed(seed: int) -> int:
    return VALIDATION_SEED + (seed == VALIDATION_SEED)


def divide_data(config: DataConfig) -> tuple[DataConfig, DataConfig]:
    """Divide labelled data into a training part and a held-out part without common images.

    Args:
        config: Which data to read. Its `split` may be that of the training part.

    Returns:
        Configs of the two parts.

    Raises:
        ValueError: If data of this kind has no parts, or the config is that of the held-out part.
    """
    match config:
        case FolderDataConfig() | IdxDataConfig() | DigitsDataConfig():
            if config.split == "test":
                raise ValueError(
                    "data.split is 'test', the held-out part: leave it out, or set held_out.kind "
                    "and the other fields of held_out to other data"
                )
            return replace(config, split="train"), replace(config, split="test")
    raise ValueError(
        f"held_out is missing, and data of the kind {config.kind!r} has no held-out part: set "
        f"held_out.kind and the other fields of held_out"
    )


def create_captioned_config(kind: str, **fields: Any) -> CaptionedDataConfig:
    """Create the config of a captioned dataset from its kind and fields.

    Args:
        kind: Value of the config's field `kind`, such as "coco".
        fields: Its other fields; numbers may be text.

    Returns:
        The config.

    Raises:
        ValueError: If the kind or a field is unknown, a required field is missing, or a value is
            of another type.
    """
    classes = {config.kind: config for config in get_args(CaptionedDataConfig)}
    if kind not in classes:
        raise ValueError(f"kind {kind!r} is not known: choose one of {', '.join(classes)}")
    defaults = {field.name: field.default for field in dataclasses.fields(classes[kind])}
    # The config's own fields before those of its base.
    known = {name: defaults[name] for name in [*classes[kind].__annotations__, *defaults]}
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise ValueError(f"{kind} has no field {unknown[0]!r}: it has {', '.join(known)}")
    missing = [name for name, default in known.items() if default is MISSING and name not in fields]
    if missing:
        raise ValueError(f"{kind} requires {missing[0]!r}: pass {missing[0]}=...")
    return validate(fields, classes[kind], kind)


def open_captioned_dataset(config: CaptionedDataConfig, seed: int) -> CaptionedDataset:
    """Open the captioned dataset that a config describes.

    Args:
        config: Which data to read, and how.
        seed: Seed of the order of the samples and of the choice among an image's captions.

    Returns:
        The dataset: a `FiniteCaptionedDataset`, except for the endless scenes and streams.

    Raises:
        ValueError: If the data is invalid; the message names the file.
        FileNotFoundError: If a file is missing.
    """
    match config:
        case CaptionedScenesDataConfig():
            return CaptionedScenesDataset(config.image_size, seed)
        case CaptionedFolderDataConfig():
            return open_captioned_folder(config, seed)
        case WebDatasetDataConfig():
            return TarShardDataset(config.root, config.image_size, seed, config.max_left_out)
        case HubDataConfig():
            return open_hub(config, seed)
        case StreamDataConfig():
            return open_stream(config, seed)
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
    dataset = LatentFilesDataset if Path(config.features).is_dir() else LatentPairDataset
    return dataset(config.features, config.labels, seed, config.num_classes)

"""From a data config to the source it describes."""

from pathlib import Path
from typing import TypeAlias

from harope.data.digits import DigitsData, DigitsSource
from harope.data.folder import FolderData, ImageFolderSource
from harope.data.idx import IdxData, IdxSource
from harope.data.latents import LatentFilesSource, LatentPairSource, LatentsData
from harope.data.scenes import ScenesData, ScenesSource
from harope.data.shards import LatentShardSource
from harope.data.source import FiniteSource, Source

DataConfig: TypeAlias = ScenesData | IdxData | DigitsData | FolderData | LatentsData
"""Every data config; the field ``kind`` tells them apart."""


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


def _open_latents(config: LatentsData, seed: int) -> FiniteSource:
    if config.root is not None:
        return LatentShardSource(config.root, seed, config.num_classes)
    assert config.features is not None
    assert config.labels is not None
    source = LatentFilesSource if Path(config.features).is_dir() else LatentPairSource
    return source(config.features, config.labels, seed, config.num_classes)

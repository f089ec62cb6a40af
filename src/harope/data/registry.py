"""From a data config to the source it describes."""

from typing import TypeAlias

from harope.data.digits import DigitsData, DigitsSource
from harope.data.idx import IdxData, IdxSource
from harope.data.scenes import ScenesData, ScenesSource
from harope.data.source import Source

DataConfig: TypeAlias = ScenesData | IdxData | DigitsData
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
            return DigitsSource(seed)

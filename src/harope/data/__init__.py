"""Training data as numbered draws: built-in scenes, image files, latents, and ways to make them."""

from harope.data.digits import DigitsData, DigitsSource
from harope.data.idx import IdxData, IdxSource
from harope.data.registry import DataConfig, open_source
from harope.data.scenes import ScenesData, ScenesSource
from harope.data.source import Batch, FiniteSource, Shuffle, Source, draws, loader

__all__ = [
    "Batch",
    "DataConfig",
    "DigitsData",
    "DigitsSource",
    "FiniteSource",
    "IdxData",
    "IdxSource",
    "ScenesData",
    "ScenesSource",
    "Shuffle",
    "Source",
    "draws",
    "loader",
    "open_source",
]

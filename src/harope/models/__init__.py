"""Models that harope builds, reads and trains."""

from harope.models.dit import DIT_SIZES, DiT, DiTConfig, fold

__all__ = ["DIT_SIZES", "DiT", "DiTConfig", "fold"]

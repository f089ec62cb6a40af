"""The diffusion transformer (DiT) with any positional encoding."""

from harope.models.dit.config import DIT_SIZES, DiTConfig
from harope.models.dit.fold import fold
from harope.models.dit.model import DiT

__all__ = ["DIT_SIZES", "DiT", "DiTConfig", "fold"]

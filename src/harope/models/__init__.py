"""Models that harope trains."""

from harope.models.dit import DiT
from harope.models.dit_config import DIT_SIZES, DiTConfig
from harope.models.folding import fold

__all__ = ["DIT_SIZES", "DiT", "DiTConfig", "fold"]

"""Head-wise adaptive rotary positional encoding (HARoPE) for image transformers.

An encoding is frequencies x basis: `create_encoding` makes any of them by name, `DiT` is a
diffusion transformer that takes any of them, and the `harope` command trains, samples and scores.
"""

from typing import TYPE_CHECKING, Any

from harope.rope import (
    EncodingConfig,
    create_encoding,
    encoding_parameters,
    fold_projection,
    grid_positions,
    list_encodings,
    parameter_groups,
    set_scaling,
    text_image_positions,
    video_positions,
)

if TYPE_CHECKING:
    from harope.models import DiT, DiTConfig, fold

__version__ = "0.1.0"

__all__ = [
    "DiT",
    "DiTConfig",
    "EncodingConfig",
    "create_encoding",
    "encoding_parameters",
    "fold",
    "fold_projection",
    "grid_positions",
    "list_encodings",
    "parameter_groups",
    "set_scaling",
    "text_image_positions",
    "video_positions",
]


def __getattr__(name: str) -> Any:
    """The models, imported when first asked for."""
    if name in ("DiT", "DiTConfig", "fold"):
        from harope import models

        return getattr(models, name)
    raise AttributeError(f"module 'harope' has no attribute {name!r}")

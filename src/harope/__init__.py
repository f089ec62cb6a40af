"""Head-wise adaptive rotary positional encoding (HARoPE) for image transformers.

An encoding is frequencies x basis: `create_encoding` makes any of them by name, `install` puts one
into a model of timm or diffusers, `DiT` is a diffusion transformer that takes any of them, and the
`harope` command trains, samples and scores.
"""

from importlib import import_module
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
    from harope.hosts import fold, install, load_encoding, remove, save_encoding
    from harope.models import DiT, DiTConfig

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
    "install",
    "list_encodings",
    "load_encoding",
    "parameter_groups",
    "remove",
    "save_encoding",
    "set_scaling",
    "text_image_positions",
    "video_positions",
]


_LAZY = {
    "DiT": "models",
    "DiTConfig": "models",
    "fold": "hosts",
    "install": "hosts",
    "load_encoding": "hosts",
    "remove": "hosts",
    "save_encoding": "hosts",
}


def __getattr__(name: str) -> Any:
    """Models and hosts, imported when first asked for."""
    if name in _LAZY:
        return getattr(import_module(f"harope.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'harope' has no attribute {name!r}")

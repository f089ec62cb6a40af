"""Head-wise adaptive rotary positional encoding (HARoPE) for image transformers.

An encoding is positions x frequencies x basis: `create_encoding` makes any of them by name,
`install` puts one into a model of timm or diffusers, `DiT` is a diffusion transformer that takes
any of them, and the `harope` command trains, samples and scores.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harope.rope import (
    EncodingConfig,
    cached,
    create_encoding,
    encoding_parameters,
    fold_projection,
    grid_positions,
    list_encodings,
    normalize_positions,
    parameter_groups,
    set_scaling,
    text_image_positions,
    text_images_positions,
    video_positions,
)

if TYPE_CHECKING:
    from harope.integrations import (
        fold,
        get_encodings,
        install,
        load_encoding,
        remove,
        save_encoding,
        use_positions,
    )
    from harope.models.dit import DiT, DiTConfig

__version__ = "0.1.0"

__all__ = [
    "DiT",
    "DiTConfig",
    "EncodingConfig",
    "cached",
    "create_encoding",
    "encoding_parameters",
    "fold",
    "fold_projection",
    "get_encodings",
    "grid_positions",
    "install",
    "list_encodings",
    "load_encoding",
    "normalize_positions",
    "parameter_groups",
    "remove",
    "save_encoding",
    "set_scaling",
    "text_image_positions",
    "text_images_positions",
    "use_positions",
    "video_positions",
]


_LAZY = {
    "DiT": "models.dit",
    "DiTConfig": "models.dit",
    "fold": "integrations",
    "get_encodings": "integrations",
    "install": "integrations",
    "load_encoding": "integrations",
    "remove": "integrations",
    "save_encoding": "integrations",
    "use_positions": "integrations",
}


def __getattr__(name: str) -> Any:
    """Models and integrations, imported when they are first used."""
    if name in ("integrations", "models"):
        return import_module(f"harope.{name}")
    if name in _LAZY:
        return getattr(import_module(f"harope.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'harope' has no attribute {name!r}")

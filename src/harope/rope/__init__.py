"""The rotary core: positions to angles to rotated queries and keys; requires torch only."""

from harope.rope._fast.dispatch import normed_rotate_qk, rotate, rotate_qk
from harope.rope.basis import apply_matrices, fold_projection
from harope.rope.config import EncodingConfig
from harope.rope.encoding import (
    Absolute,
    NoEncoding,
    PositionalEncoding,
    RotaryEncoding,
    batched_matrices,
    cached,
)
from harope.rope.positions import (
    grid_positions,
    normalize_positions,
    text_image_positions,
    text_images_positions,
    video_positions,
)
from harope.rope.presets import (
    create_encoding,
    encoding_config,
    encoding_parameters,
    list_encodings,
    parameter_groups,
)
from harope.rope.rotate import (
    AnyRotationTable,
    BlockRotationTable,
    RotationTable,
    rotation_table,
)
from harope.rope.scaling import Scaling, set_scaling

__all__ = [
    "Absolute",
    "AnyRotationTable",
    "BlockRotationTable",
    "EncodingConfig",
    "NoEncoding",
    "PositionalEncoding",
    "RotaryEncoding",
    "RotationTable",
    "Scaling",
    "apply_matrices",
    "batched_matrices",
    "cached",
    "create_encoding",
    "encoding_config",
    "encoding_parameters",
    "fold_projection",
    "grid_positions",
    "list_encodings",
    "normalize_positions",
    "normed_rotate_qk",
    "parameter_groups",
    "rotate",
    "rotate_qk",
    "rotation_table",
    "set_scaling",
    "text_image_positions",
    "text_images_positions",
    "video_positions",
]

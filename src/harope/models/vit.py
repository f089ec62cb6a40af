"""timm's vision transformer with an encoding, from scratch and from a checkpoint."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter

from harope._utils.argument_checks import check_fields
from harope._utils.field_checks import AT_LEAST_ONE, FRACTION, check_range
from harope._utils.suggestions import suggest
from harope.integrations import ModelChangedWarning, install
from harope.models.checkpoint_files import read_checkpoint, read_weights
from harope.rope import encoding_config

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

BUILTIN_ENCODING = "ape-learned"
"""Encoding of an unmodified ViT: a learned embedding added to the tokens."""

_SIZES = ("depth", "width", "num_heads", "patch_size")


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """A vision transformer with a class token (ViT; Dosovitskiy et al. 2021, arXiv 2010.11929).

    Give either the `name` of a timm model or all of depth, width, num_heads and patch_size.
    """

    name: str | None = None
    """Name of a timm VisionTransformer such as vit_base_patch16_224; None for the sizes below."""
    depth: int | None = None
    """Number of blocks."""
    width: int | None = None
    """Channels of the tokens."""
    num_heads: int | None = None
    """Number of attention heads, of width / num_heads channels each."""
    patch_size: int | None = None
    """Side of a patch in pixels."""
    mlp_ratio: float | None = None
    """Hidden width of the MLPs divided by the width; None for timm's default, usually 4."""
    in_channels: int = 3
    """Channels of the images: 3 for RGB, 1 for greyscale."""
    num_classes: int | None = 1000
    """Number of classes. None: that of the training data, set by the training."""
    drop_path: float = 0.0
    """Stochastic depth (arXiv 1603.09382): probability that a sample skips a branch of the last
    block. It increases linearly from 0 in the first block."""
    input_size: tuple[int, int] | None = None
    """Height and width of the training images; set by the training. Other sizes can be run."""
    encoding: str = "harope"
    """Positional encoding, one of `harope.list_encodings()`; "ape-learned" is the built-in one."""
    encoding_options: dict[str, Any] = field(default_factory=dict)
    """Options of the encoding that replace those of its preset, see `EncodingConfig`."""
    keep_absolute: bool = False
    """Whether the built-in learned embedding remains in addition to the encoding."""

    def __post_init__(self) -> None:
        check_fields(self)
        given = [name for name in _SIZES if getattr(self, name) is not None]
        if len(given) != (0 if self.name else len(_SIZES)):
            raise ValueError(
                f"name {self.name!r} and {', '.join(f'{n} {getattr(self, n)}' for n in _SIZES)}: "
                f"give either the name of a timm model or all four sizes"
            )
        check_range(self, AT_LEAST_ONE, *given, "in_channels", "num_classes")
        if self.width and self.num_heads and self.width % self.num_heads:
            raise ValueError(
                f"width {self.width} is not a multiple of num_heads {self.num_heads}: "
                f"choose a width that the heads divide"
            )
        if self.mlp_ratio is not None and self.mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio {self.mlp_ratio} must be positive: 4 is usual")
        check_range(self, FRACTION, "drop_path")
        encoding_config(self.encoding, **self.encoding_options)
        if self.encoding == BUILTIN_ENCODING and self.encoding_options:
            raise ValueError(
                f"encoding {BUILTIN_ENCODING!r} is the ViT's built-in embedding, which takes no "
                f"encoding_options, got {self.encoding_options}: leave them out"
            )


def create_vit(config: ViTConfig) -> "VisionTransformer":
    """Create a ViT with new weights and its encoding installed.

    Initial weights outside the encoding are the same for every encoding, given the same
    `torch.manual_seed`.

    Args:
        config: Name or sizes, and the encoding; `input_size` must be set.

    Returns:
        The model.

    Raises:
        ValueError: If timm has no model of that name, the encoding does not fit, or `input_size` or
            `num_classes` is None.
    """
    import timm
    from timm.models.vision_transformer import VisionTransformer

    if config.input_size is None:
        raise ValueError(
            "input_size is None, but a ViT's embedding needs it: set input_size=(height, width)"
        )
    if config.num_classes is None:
        raise ValueError("num_classes is None: set it to the number of classes of the data")
    options: dict[str, Any] = {
        "img_size": config.input_size,
        "in_chans": config.in_channels,
        "num_classes": config.num_classes,
        "drop_path_rate": config.drop_path,
        # Without it, timm rejects every image size except the trained one.
        "dynamic_img_size": True,
    }
    if config.mlp_ratio is not None:
        options["mlp_ratio"] = config.mlp_ratio
    model: VisionTransformer
    if config.name is not None:
        _check_name(config.name, timm.list_models(module="vision_transformer"))
        # Every name of that timm module creates a VisionTransformer.
        model = cast("VisionTransformer", timm.create_model(config.name, **options))
    else:
        sizes: dict[str, Any] = {name: getattr(config, name) for name in _SIZES}
        model = VisionTransformer(embed_dim=sizes.pop("width"), **sizes, **options)
    _install_encoding(model, config)
    return model


def read_vit(path: Path, *, weights: str = "ema") -> tuple["VisionTransformer", ViTConfig]:
    """Read a ViT from a run folder (its last checkpoint) or a checkpoint folder.

    Args:
        path: Run folder or checkpoint folder.
        weights: "ema" or "model".

    Returns:
        The model in eval mode, and its configuration.

    Raises:
        ValueError: If there is no checkpoint, or it is damaged or not that of a ViT.
    """

    def build(values: dict[str, Any], file: Path) -> tuple["VisionTransformer", ViTConfig]:
        config = TypeAdapter(ViTConfig).validate_python(values)
        model = create_vit(config)
        model.load_state_dict(read_weights(file))
        return model.eval(), config

    return read_checkpoint(path, weights=weights, kind="a ViT", build=build)


def vit_patch_size(model: "VisionTransformer") -> int:
    """Return the side of a patch in pixels.

    Args:
        model: Model of timm.
    """
    height, width = model.patch_embed.patch_size
    assert height == width
    return height


def _install_encoding(model: "VisionTransformer", config: ViTConfig) -> None:
    if config.encoding == BUILTIN_ENCODING:
        return
    with warnings.catch_warnings():
        # New weights have no outputs to preserve.
        warnings.simplefilter("ignore", ModelChangedWarning)
        options = config.encoding_options
        install(model, config.encoding, keep_absolute=config.keep_absolute, **options)


def _check_name(name: str, known: list[str]) -> None:
    if name not in known:
        hint = suggest(name, known, "see timm.list_models('vit_*')")
        raise ValueError(f"model.name {name!r} is not a timm VisionTransformer: {hint}")

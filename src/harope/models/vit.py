"""timm's vision transformer with an encoding of ours, from scratch and from a checkpoint."""

import json
import warnings
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file

from harope.integrations import ModelChangedWarning, install
from harope.models.checkpoint_files import find_weights
from harope.rope import encoding_config
from harope.rope.presets import options_from_file

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

BUILTIN_ENCODING = "ape-learned"
"""The encoding that a ViT has before one is put in."""

_SIZES = ("depth", "width", "num_heads", "patch_size")


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """A vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) that classifies by a token.

    Either one of timm's by name, or the four sizes.
    """

    name: str | None = None
    """One of timm's VisionTransformers, such as vit_base_patch16_224; None for the sizes below."""
    depth: int | None = None
    """Number of blocks."""
    width: int | None = None
    """Channels of the tokens."""
    num_heads: int | None = None
    """Attention heads; width / num_heads channels each."""
    patch_size: int | None = None
    """Pixels along the side of a token."""
    mlp_ratio: float | None = None
    """Hidden channels of the MLPs over the width; None for the model's own, 4 in most."""
    in_channels: int = 3
    """Channels of the images: 3 for RGB, 1 for grey."""
    num_classes: int = 1000
    """Classes to tell apart."""
    drop_path: float = 0.0
    """Probability that a sample skips the last block's branches; less in the blocks before it
    (stochastic depth, arXiv 1603.09382)."""
    input_size: tuple[int, int] | None = None
    """Height and width it was trained at, which training fills in; any other can be run."""
    encoding: str = "harope"
    """Positional encoding, one of `harope.list_encodings()`; "ape-learned" is the ViT's own."""
    encoding_options: dict[str, Any] = field(default_factory=dict)
    """Parts of the encoding's preset to replace (see EncodingConfig)."""
    keep_absolute: bool = False
    """Whether the ViT's own learned embedding stays beside the encoding."""

    def __post_init__(self) -> None:
        given = [name for name in _SIZES if getattr(self, name) is not None]
        if len(given) != (0 if self.name else len(_SIZES)):
            raise ValueError(
                f"name {self.name!r} and {', '.join(f'{n} {getattr(self, n)}' for n in _SIZES)}: "
                f"give either a name of timm's, or all four sizes"
            )
        for name in (*given, "in_channels", "num_classes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.width and self.num_heads and self.width % self.num_heads:
            raise ValueError(
                f"width {self.width} is not a multiple of num_heads {self.num_heads}: "
                f"heads need whole channels"
            )
        if self.mlp_ratio is not None and self.mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio {self.mlp_ratio} must be positive: 4 is usual")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path {self.drop_path} must lie in [0, 1)")
        encoding_config(self.encoding, **self.encoding_options)
        if self.encoding == BUILTIN_ENCODING and self.encoding_options:
            raise ValueError(
                f"encoding {BUILTIN_ENCODING!r} is the ViT's own embedding, which takes no "
                f"encoding_options, got {self.encoding_options}: leave them out"
            )


def create_vit(config: ViTConfig) -> "VisionTransformer":
    """The model with fresh weights, the same for every encoding, and its encoding in it.

    Raises ValueError for a name that timm does not have, for an encoding that does not fit, and
    without an input_size.
    """
    import timm
    from timm.models.vision_transformer import VisionTransformer

    if config.input_size is None:
        raise ValueError("input_size is None but a ViT has an embedding of its size: set it")
    options: dict[str, Any] = {
        "img_size": config.input_size,
        "in_chans": config.in_channels,
        "num_classes": config.num_classes,
        "drop_path_rate": config.drop_path,
        # Without it a ViT refuses every size but the trained one.
        "dynamic_img_size": True,
    }
    if config.mlp_ratio is not None:
        options["mlp_ratio"] = config.mlp_ratio
    model: VisionTransformer
    if config.name is not None:
        _check_name(config.name, timm.list_models(module="vision_transformer"))
        # Every name of that module makes one.
        model = cast("VisionTransformer", timm.create_model(config.name, **options))
    else:
        sizes: dict[str, Any] = {name: getattr(config, name) for name in _SIZES}
        model = VisionTransformer(embed_dim=sizes.pop("width"), **sizes, **options)
    _install_encoding(model, config)
    return model


def read_vit(path: Path, *, weights: str = "ema") -> tuple["VisionTransformer", ViTConfig]:
    """A model in eval mode from a run folder (its last checkpoint) or a checkpoint folder.

    Raises ValueError when the path holds no checkpoint of a ViT, or a damaged one.
    """
    file = find_weights(path, weights)
    folder = file.parent
    try:
        values = json.loads((folder / "config.json").read_text())
        options = options_from_file(values["encoding"], values["encoding_options"])
        values |= {"encoding_options": options}
        config = TypeAdapter(ViTConfig).validate_python(values)
        model = create_vit(config)
        model.load_state_dict(load_file(file))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"checkpoint {folder} is not that of a ViT, or damaged: {error}") from None
    return model.eval(), config


def vit_patch_size(model: "VisionTransformer") -> int:
    """Pixels along the side of a token."""
    height, width = model.patch_embed.patch_size
    assert height == width
    return height


def _install_encoding(model: "VisionTransformer", config: ViTConfig) -> None:
    """Put the encoding in."""
    if config.encoding == BUILTIN_ENCODING:
        return
    with warnings.catch_warnings():
        # Weights are fresh: there is no output to preserve.
        warnings.simplefilter("ignore", ModelChangedWarning)
        options = config.encoding_options
        install(model, config.encoding, keep_absolute=config.keep_absolute, **options)


def _check_name(name: str, known: list[str]) -> None:
    if name not in known:
        match = get_close_matches(name, known, n=1)
        mend = f"did you mean {match[0]!r}?" if match else "see timm.list_models('vit_*')"
        raise ValueError(f"model.name {name!r} is no VisionTransformer of timm's: {mend}")

"""The FLUX.1 transformer for LoRA training: frozen, with an encoding and adapters to train."""

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from harope._utils.argument_checks import check_fields, check_integer, check_tensor
from harope._utils.hub import local_files_only
from harope.integrations import ModelChangedWarning, install
from harope.rope import encoding_config, encoding_parameters

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel


ATTENTION_AND_FEED_FORWARD = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
)
"""Linear layers that diffusers' FLUX LoRA script adapts (train_dreambooth_lora_flux.py)."""


@dataclass(frozen=True, kw_only=True)
class FluxModelConfig:
    """A frozen FLUX.1 transformer with an encoding and LoRA (arXiv 2106.09685) to train."""

    pretrained: str = "black-forest-labs/FLUX.1-dev"
    """Folder or Hugging Face Hub id of the pipeline, in diffusers' layout."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Dtype of the frozen weights and the text embeddings; trained parameters are float32."""
    encoding: str = "harope"
    """Positional encoding, one of `harope.list_encodings()`. "axial" is FLUX's built-in RoPE, the
    control of an experiment."""
    encoding_options: dict[str, Any] = field(default_factory=dict)
    """Options of the encoding that replace those of its preset, see `EncodingConfig`."""
    rank: int = 32
    """Rank of the LoRA updates."""
    alpha: int = 32
    """The LoRA updates are scaled by alpha / rank."""
    target_modules: tuple[str, ...] = ATTENTION_AND_FEED_FORWARD
    """Name suffixes of the linear layers that LoRA adapts."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"rank {self.rank} and alpha {self.alpha} must be positive")
        if not self.target_modules:
            raise ValueError("target_modules is empty: name linear layers such as attn.to_q")
        encoding_config(self.encoding, **self.encoding_options)


def create_flux(config: FluxModelConfig) -> "FluxTransformer2DModel":
    """Load a FLUX.1 transformer, freeze it, and add an encoding and LoRA to train in float32.

    Args:
        config: Pretrained pipeline, encoding and LoRA.

    Returns:
        The transformer; exactly the parameters to train require a gradient.

    Raises:
        OSError: If the folder has no transformer.
        ValueError: If the pipeline is not found, the encoding does not fit, or the model does not
            have the target modules.
    """
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel.from_pretrained(
        config.pretrained,
        subfolder="transformer",
        torch_dtype=getattr(torch, config.dtype),
        local_files_only=local_files_only(config.pretrained),
    )
    add_trained_parts(model, config)
    return model


def add_trained_parts(model: "FluxTransformer2DModel", config: FluxModelConfig) -> None:
    """Freeze a FLUX.1 transformer, and add an encoding and LoRA to train in float32.

    Args:
        model: The transformer, which is changed.
        config: Encoding and LoRA.

    Raises:
        ValueError: If the encoding does not fit, or the model does not have the target modules.
    """
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    with warnings.catch_warnings():
        # The change of the outputs is intended: the model is about to be trained.
        warnings.simplefilter("ignore", ModelChangedWarning)
        install(model, config.encoding, **config.encoding_options)
    model.requires_grad_(False)
    model.add_adapter(
        LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            target_modules=list(config.target_modules),
            modules_to_save=["harope"] if encoding_parameters(model) else None,
        )
    )
    cast_training_params(model)


def pack(
    latents: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch tokens packed"]:
    """Group latents into FLUX tokens of 2 x 2, row by row.

    Args:
        latents: Latents with even height and width.

    Returns:
        Tokens (batch, height / 2 * width / 2, 4 * channels); the channels of a token are ordered
        (channel, dy, dx).

    Raises:
        ValueError: If the latents do not have four axes, or an odd height or width.
    """
    check_tensor("latents", latents, 4)
    if latents.shape[2] % 2 or latents.shape[3] % 2:
        raise ValueError(
            f"latents have the shape {tuple(latents.shape)}: height and width must be even"
        )
    batch, channels, height, width = latents.shape
    cells = latents.view(batch, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


def unpack(
    tokens: Float[Tensor, "batch tokens packed"], height: int, width: int
) -> Float[Tensor, "batch channels {height} {width}"]:
    """Invert `pack`, given the height and width of the latents.

    Args:
        tokens: Tokens as returned by `pack`.
        height: Height of the latents.
        width: Width of the latents.

    Raises:
        ValueError: If the tokens are not those of latents of that size.
    """
    check_tensor("tokens", tokens, 3)
    for name, side in (("height", height), ("width", width)):
        check_integer(name, side, 2)
    if height % 2 or width % 2 or 4 * tokens.shape[1] != height * width or tokens.shape[2] % 4:
        raise ValueError(
            f"tokens have the shape {tuple(tokens.shape)}, which is not that of packed latents of "
            f"{height} x {width}"
        )
    batch, _, packed = tokens.shape
    cells = tokens.view(batch, height // 2, width // 2, packed // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(batch, packed // 4, height, width)

"""FLUX's transformer as LoRA training needs it: loaded, frozen, with what is trained put in."""

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

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
"""What diffusers' own training of FLUX by LoRA adapts (train_dreambooth_lora_flux.py)."""


@dataclass(frozen=True, kw_only=True)
class FluxModelConfig:
    """A frozen transformer of FLUX.1 with an encoding and LoRA (arXiv 2106.09685) to train."""

    pretrained: str = "black-forest-labs/FLUX.1-dev"
    """Folder or hub id of the pipeline, in diffusers' layout."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Of the frozen weights and the text states; what is trained is float32."""
    encoding: str = "harope"
    """Positional encoding, one of `harope.list_encodings()`; "axial" is FLUX's own: the control."""
    encoding_options: dict[str, Any] = field(default_factory=dict)
    """Parts of the encoding's preset to replace (see EncodingConfig)."""
    rank: int = 32
    """Rank of LoRA."""
    alpha: int = 32
    """LoRA is scaled by alpha / rank."""
    target_modules: tuple[str, ...] = ATTENTION_AND_FEED_FORWARD
    """Ends of the names of the Linears that get LoRA."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"rank {self.rank} and alpha {self.alpha} must be positive")
        if not self.target_modules:
            raise ValueError("target_modules is empty: name Linears, such as attn.to_q")
        encoding_config(self.encoding, **self.encoding_options)


def create_flux(config: FluxModelConfig) -> "FluxTransformer2DModel":
    """The frozen transformer, with the encoding and LoRA to train in float32.

    Raises OSError where the pipeline is not found, ValueError for an encoding that does not fit or
    modules that it lacks.
    """
    from diffusers import FluxTransformer2DModel
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    model = FluxTransformer2DModel.from_pretrained(
        config.pretrained, subfolder="transformer", torch_dtype=getattr(torch, config.dtype)
    )
    with warnings.catch_warnings():
        # It is installed to be trained.
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
    return model


def pack(
    latents: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch tokens packed"]:
    """Tokens of 2 x 2 latents, row by row; channels outermost: (channel, dy, dx)."""
    batch, channels, height, width = latents.shape
    cells = latents.view(batch, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


def unpack(
    tokens: Float[Tensor, "batch tokens packed"], height: int, width: int
) -> Float[Tensor, "batch channels {height} {width}"]:
    """The reverse of `pack`."""
    batch, _, packed = tokens.shape
    cells = tokens.view(batch, height // 2, width // 2, packed // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(batch, packed // 4, height, width)

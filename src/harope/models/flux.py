"""FLUX's transformer as LoRA training needs it: loaded, frozen, with what is trained put in."""

import warnings
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from harope.integrations import ModelChangedWarning, install
from harope.lab.training.tasks.flux_lora.config import FluxModelConfig
from harope.rope import encoding_parameters

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel


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

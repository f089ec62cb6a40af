"""What FLUX learns from: latents of its VAE, states of its text encoders, and whether they fit."""

from collections.abc import Sequence
from typing import Any

import torch

from harope.lab.data.captioned.base import FiniteCaptionedDataset, distinct_captions
from harope.lab.data.latents.captioned import CaptionedLatentsDataset
from harope.lab.data.latents.vae import Vae, latent_shape, scaling_factor, shift_factor
from harope.lab.text import EmbeddingCache, FluxTextConfig, TextEmbeddings, open_text_encoder
from harope.lab.training.tasks.caption_embeddings import open_states
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig


def latents_of(source: FiniteCaptionedDataset, vae: Vae) -> tuple[int, int, int]:
    """Shape of a latent. ValueError where latents were made by another VAE."""
    if not isinstance(source, CaptionedLatentsDataset):
        return latent_shape(vae, source.shape)
    made = source.manifest.encoding
    own = scaling_factor(vae), shift_factor(vae)
    if made is not None and (made.scaling_factor, made.shift_factor) != own:
        raise ValueError(
            f"the latents were made with scaling_factor {made.scaling_factor} and shift_factor "
            f"{made.shift_factor} but the pipeline's VAE has {own[0]} and {own[1]}: encode the "
            f"images by `harope encode --vae PIPELINE --subfolder vae`"
        )
    return source.shape


def encode_text(
    config: FluxLoraConfig, source: FiniteCaptionedDataset, device: torch.device
) -> tuple[EmbeddingCache, TextEmbeddings]:
    """States of all captions, and those of the sample pictures (of one, where there are none)."""
    captions = distinct_captions(source)
    prompts = _repeat(config.prompts or captions, max(config.num_samples, 1))
    text = FluxTextConfig(path=config.model.pretrained, length=config.text_length)
    states = open_states(
        config.text_cache,
        [*captions, *prompts],
        lambda: open_text_encoder(text, device, getattr(torch, config.model.dtype)),
        dtype=config.model.dtype,
        batch_size=16,
        quiet=False,
    )
    return states, states.read(prompts)


def _repeat(prompts: Sequence[str], count: int) -> list[str]:
    return [prompts[place % len(prompts)] for place in range(count)]


def check_flux(
    model: Any, shape: tuple[int, int, int], text: TextEmbeddings, config: FluxLoraConfig
) -> None:
    """Raise ValueError unless the transformer takes these latents and these states."""
    channels, height, width = shape
    if channels * 4 != model.in_channels or height % 2 or width % 2:
        raise ValueError(
            f"latents of shape {shape} do not fit {config.model.pretrained}, which takes "
            f"{model.in_channels // 4} channels and an even height and width"
        )
    found = (*text.states.shape[1:], text.pooled.shape[1])
    wanted = (config.text_length, model.joint_attention_dim, model.pooled_projection_dim)
    if found != wanted:
        raise ValueError(
            f"text_cache {config.text_cache} holds states of {found[0]} x {found[1]} and pooled "
            f"vectors of {found[2]}, not of {wanted[0]} x {wanted[1]} and {wanted[2]}: name "
            f"another folder"
        )

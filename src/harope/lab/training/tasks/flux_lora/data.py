"""Training data of FLUX: VAE latents and text embeddings, and whether they fit the model."""

from collections.abc import Sequence
from typing import Any

import torch

from harope.lab.data.captioned.base import FiniteCaptionedDataset, distinct_captions
from harope.lab.data.latents.captioned import CaptionedLatentsDataset
from harope.lab.data.latents.vae import Vae, latent_shape, scaling_factor, shift_factor
from harope.lab.text import EmbeddingCache, FluxTextConfig, TextEmbeddings, open_text_encoder
from harope.lab.text.registry import encoder_source
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.text_embeddings import open_text_embeddings


def flux_latent_shape(source: FiniteCaptionedDataset, vae: Vae) -> tuple[int, int, int]:
    """Return the shape (channels, height, width) of the latents of training data.

    Args:
        source: Images, which the VAE encodes, or latents.
        vae: VAE of the pipeline.

    Returns:
        Channels, height and width.

    Raises:
        ValueError: If the data consists of latents with the scale and shift of another VAE.
    """
    if not isinstance(source, CaptionedLatentsDataset):
        return latent_shape(vae, source.shape)
    actual = source.manifest.encoding
    expected = scaling_factor(vae), shift_factor(vae)
    if actual is not None and (actual.scaling_factor, actual.shift_factor) != expected:
        raise ValueError(
            f"the latents have scaling_factor {actual.scaling_factor} and shift_factor "
            f"{actual.shift_factor}, but the pipeline's VAE has {expected[0]} and {expected[1]}: "
            f"encode the images with `harope encode --vae PIPELINE --subfolder vae`"
        )
    return source.shape


def encode_text(
    config: FluxLoraConfig, source: FiniteCaptionedDataset, device: torch.device
) -> tuple[EmbeddingCache, TextEmbeddings]:
    """Cache the text embeddings of a training.

    Args:
        config: Configuration of the training.
        source: Captioned training data.
        device: Device of the text encoders.

    Returns:
        The cache with all captions, and the embeddings of the sample grid's prompts (of one prompt
        if the grid is empty).
    """
    captions = distinct_captions(source)
    prompts = _cycle(config.prompts or captions, max(config.num_samples, 1))
    text = FluxTextConfig(path=config.model.pretrained, length=config.text_length)
    dtype = getattr(torch, config.model.dtype)
    cache = open_text_embeddings(
        config.text_cache,
        [*captions, *prompts],
        encoder_source(text, dtype),
        lambda: open_text_encoder(text, device, dtype),
        dtype=config.model.dtype,
        batch_size=16,
        max_truncated=config.max_truncated,
        quiet=False,
    )
    return cache, cache.read(prompts)


def check_flux_inputs(
    model: Any, shape: tuple[int, int, int], text: TextEmbeddings, config: FluxLoraConfig
) -> None:
    """Check that latents and text embeddings fit a FLUX transformer.

    Args:
        model: Configuration of the transformer.
        shape: Shape of a latent, (channels, height, width).
        text: Some text embeddings.
        config: Configuration of the training.

    Raises:
        ValueError: If the latents or the embeddings do not fit.
    """
    channels, height, width = shape
    if channels * 4 != model.in_channels or height % 2 or width % 2:
        raise ValueError(
            f"latents of shape {shape} do not fit {config.model.pretrained}, which takes "
            f"{model.in_channels // 4} channels and an even height and width: choose another "
            f"image size or encode the images with this pipeline's VAE"
        )
    actual = (*text.states.shape[1:], text.pooled.shape[1])
    expected = (config.text_length, model.joint_attention_dim, model.pooled_projection_dim)
    if actual != expected:
        raise ValueError(
            f"text_cache {config.text_cache} holds embeddings of {actual[0]} x {actual[1]} and "
            f"pooled embeddings of {actual[2]}, not of {expected[0]} x {expected[1]} and "
            f"{expected[2]}: set text_cache to another folder"
        )


def _cycle(prompts: Sequence[str], count: int) -> list[str]:
    return [prompts[index % len(prompts)] for index in range(count)]

"""Encoding and decoding of images by any diffusers `AutoencoderKL`.

latent = (z - shift_factor) * scaling_factor has about unit variance (Rombach et al. 2022,
arXiv:2112.10752). Stable Diffusion 3 and FLUX introduced the shift.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from harope._utils.hub import local_files_only

Vae: TypeAlias = Any
"""A diffusers `AutoencoderKL`; the library is imported on use only."""


def load_vae(path: str | Path, subfolder: str | None = None) -> Vae:
    """Load an AutoencoderKL on the CPU, in evaluation mode and without gradients.

    Args:
        path: Local folder or hub id.
        subfolder: Subfolder of the weights; "vae" for the repository of a pipeline.

    Returns:
        The autoencoder.

    Raises:
        ImportError: If diffusers is not installed.
        OSError: If the folder has no autoencoder.
        ValueError: If there is no such model, or the Hub cannot be reached.
    """
    if find_spec("diffusers") is None:
        raise ImportError(
            f"reading the VAE {path} requires diffusers: pip install harope[diffusers]"
        )
    # The Hub is asked first, because importing diffusers takes seconds.
    local = local_files_only(path)
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(str(path), subfolder=subfolder, local_files_only=local)
    return vae.eval().requires_grad_(False)


def scaling_factor(vae: Vae) -> float:
    """Return the factor by which a VAE's latents are scaled.

    Args:
        vae: Autoencoder of the latents.

    Returns:
        The factor.
    """
    return float(vae.config.scaling_factor)


def shift_factor(vae: Vae) -> float:
    """Return the offset that is subtracted from a VAE's latents before they are scaled.

    Args:
        vae: Autoencoder of the latents.

    Returns:
        The offset, 0 if the VAE has none.
    """
    return float(vae.config.get("shift_factor") or 0.0)


def latent_shape(vae: Vae, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape of an image's latent.

    Args:
        vae: Autoencoder of the latents.
        image_shape: Channels, height and width of the image.

    Returns:
        Channels, height and width of the latent.

    Raises:
        ValueError: If the VAE expects other channels, or the size is not a multiple of its
            downsampling factor.
    """
    channels, height, width = image_shape
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if channels != vae.config.in_channels:
        raise ValueError(
            f"the images have {channels} channels but the VAE expects {vae.config.in_channels}: "
            "use other images or another VAE"
        )
    if height % factor or width % factor:
        raise ValueError(
            f"the image size {height} x {width} is not a multiple of the VAE's downsampling "
            f"factor {factor}: use a multiple of it"
        )
    return int(vae.config.latent_channels), height // factor, width // factor


@torch.no_grad()
def encode_latents(
    vae: Vae,
    images: Float[Tensor, "batch channels height width"],
    noise: Float32[Tensor, "batch latent_channels latent_height latent_width"] | None = None,
) -> Float32[Tensor, "batch latent_channels latent_height latent_width"]:
    """Encode images to scaled latents.

    Args:
        vae: Autoencoder, on the device of the images.
        images: Images in [-1, 1].
        noise: Standard normal noise, with which the latents are samples from the encoder's normal
            distribution; None for its mode.

    Returns:
        Latents, on the device of the images.
    """
    distribution = vae.encode(images.to(vae.dtype)).latent_dist
    z = distribution.mean.float()
    if noise is not None:
        z = z + distribution.std.float() * noise
    return (z - shift_factor(vae)) * scaling_factor(vae)


@torch.no_grad()
def decode_latents(
    vae: Vae,
    latents: Float[Tensor, "batch latent_channels latent_height latent_width"],
    batch_size: int = 16,
) -> Float32[Tensor, "batch channels height width"]:
    """Decode scaled latents to images.

    Args:
        vae: Autoencoder, on the device of the latents.
        latents: Scaled latents.
        batch_size: Latents decoded at once.

    Returns:
        Images in [-1, 1], on the device of the latents.
    """
    z = latents.float() / scaling_factor(vae) + shift_factor(vae)
    parts = [vae.decode(part.to(vae.dtype)).sample.float() for part in z.split(batch_size)]
    return torch.cat(parts).clamp(-1, 1)

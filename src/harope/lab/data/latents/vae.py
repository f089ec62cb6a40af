"""Images to latents and back by any diffusers ``AutoencoderKL``.

``latent = (z - shift_factor) * scaling_factor``: unit variance for the model that learns them
(Rombach et al. 2022, arXiv:2112.10752; the shift is that of Stable Diffusion 3 and FLUX).
"""

from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Float32
from torch import Tensor

Vae: TypeAlias = Any
"""A diffusers AutoencoderKL: a torch module, whose library is not loaded here."""


def load_vae(path: str | Path, subfolder: str | None = None) -> Vae:
    """Load an AutoencoderKL from a local folder or a hub id, in evaluation mode, on the CPU.

    ``subfolder`` is "vae" for repositories that hold a whole pipeline. Raises ImportError without
    diffusers, OSError where nothing is found.
    """
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise ImportError(
            f"reading the VAE {path} needs diffusers: pip install harope[diffusers]"
        ) from error
    return (
        AutoencoderKL.from_pretrained(str(path), subfolder=subfolder).eval().requires_grad_(False)
    )


def scaling_factor(vae: Vae) -> float:
    """The factor of the latents, from the VAE's config."""
    return float(vae.config.scaling_factor)


def shift_factor(vae: Vae) -> float:
    """The shift of the latents, from the VAE's config; 0 where it has none."""
    return float(vae.config.get("shift_factor") or 0.0)


def latent_shape(vae: Vae, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Shape of the latent of an image. ValueError where the VAE does not take such images."""
    channels, height, width = image_shape
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if channels != vae.config.in_channels:
        raise ValueError(
            f"images have {channels} channels but the VAE takes {vae.config.in_channels}: "
            "choose other images or another VAE"
        )
    if height % factor or width % factor:
        raise ValueError(
            f"images of {height} x {width} do not divide by the VAE's factor {factor}: "
            f"choose a multiple of {factor}"
        )
    return int(vae.config.latent_channels), height // factor, width // factor


@torch.no_grad()
def encode_latents(
    vae: Vae,
    images: Float[Tensor, "batch channels height width"],
    noise: Float32[Tensor, "batch latent_channels latent_height latent_width"] | None = None,
) -> Float32[Tensor, "batch latent_channels latent_height latent_width"]:
    """Latents of images in [-1, 1], on the images' device.

    The encoder gives a normal distribution per image: with standard normal ``noise`` the latents
    are samples of it, without they are its mode.
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
    """Images in [-1, 1] of latents, ``batch_size`` at once, on the latents' device."""
    z = latents.float() / scaling_factor(vae) + shift_factor(vae)
    parts = [vae.decode(part.to(vae.dtype)).sample.float() for part in z.split(batch_size)]
    return torch.cat(parts).clamp(-1, 1)

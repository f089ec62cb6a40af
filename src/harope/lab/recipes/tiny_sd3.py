"""A tiny Stable Diffusion 3 pipeline with random weights in diffusers' layout."""

from pathlib import Path
from typing import Any

from harope._utils.rng import isolated_torch_rng
from harope.lab.recipes.tiny_text import clip_config, clip_tokenizer, t5_encoder, t5_tokenizer


def save_tiny_sd3(folder: str | Path, *, latent_channels: int = 4, seed: int = 0) -> Path:
    """Create and save a tiny StableDiffusion3Pipeline for images of 16 x 16 pixels.

    Args:
        folder: Folder to write into.
        latent_channels: Channels of the latents.
        seed: Seed of the weights.

    Returns:
        The folder.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    with isolated_torch_rng(seed):
        StableDiffusion3Pipeline(
            transformer=_transformer(latent_channels),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=_vae(latent_channels),
            text_encoder=CLIPTextModelWithProjection(clip_config()),
            tokenizer=clip_tokenizer(),
            text_encoder_2=CLIPTextModelWithProjection(clip_config()),
            tokenizer_2=clip_tokenizer(),
            text_encoder_3=t5_encoder(),
            tokenizer_3=t5_tokenizer(),
        ).save_pretrained(folder)
    return Path(folder)


def save_tiny_clip(folder: str | Path, seed: int = 0) -> Path:
    """Create and save a tiny CLIP text model with projection, and its tokenizer.

    Args:
        folder: Folder to write into.
        seed: Seed of the weights.

    Returns:
        The folder.
    """
    from transformers import CLIPTextModelWithProjection

    with isolated_torch_rng(seed):
        CLIPTextModelWithProjection(clip_config()).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    return Path(folder)


def _transformer(latent_channels: int) -> Any:
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=latent_channels,
        out_channels=latent_channels,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=8,
    )


def _vae(latent_channels: int) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=16,
        latent_channels=latent_channels,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    )

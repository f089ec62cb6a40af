"""Random text-to-image pipelines of diffusers, small enough to draw in a moment."""

from pathlib import Path

import torch

from harope.recipes.random_text import clip_config, clip_tokenizer, t5_encoder, t5_tokenizer


def save_tiny_sd3(folder: Path) -> Path:
    """Stable Diffusion 3 in the hub's layout; draws 16 x 16."""
    from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        StableDiffusion3Pipeline(
            transformer=_transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=_vae(),
            text_encoder=_text_encoder(),
            tokenizer=clip_tokenizer(),
            text_encoder_2=_text_encoder(),
            tokenizer_2=clip_tokenizer(),
            text_encoder_3=t5_encoder(),
            tokenizer_3=t5_tokenizer(),
        ).save_pretrained(folder)
    return folder


def _transformer():
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=8,
    )


def _vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=16,
        latent_channels=4,
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


def _text_encoder():
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(clip_config())

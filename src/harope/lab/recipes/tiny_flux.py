"""A tiny FLUX pipeline with random weights in diffusers' layout, small enough to train on a CPU.

Its VAE is the identity, and its text encoders have one token per letter.
"""

from pathlib import Path
from typing import Any

import torch

from harope._utils.rng import isolated_torch_rng
from harope.lab.recipes.tiny_text import clip_config, clip_tokenizer, t5_encoder, t5_tokenizer

LATENT_CHANNELS = 3


def save_tiny_flux(
    folder: str | Path,
    *,
    depth: tuple[int, int] = (1, 1),
    num_heads: int = 2,
    axes_dim: tuple[int, int, int] = (4, 6, 6),
    seed: int = 0,
) -> Path:
    """Create and save a tiny FluxPipeline.

    Args:
        folder: Folder to write into.
        depth: Number of double-stream and of single-stream blocks.
        num_heads: Number of attention heads.
        axes_dim: Channels of a head per position axis of FLUX's RoPE.
        seed: Seed of the weights.

    Returns:
        The folder.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    with isolated_torch_rng(seed):
        t5 = t5_encoder()
        transformer = FluxTransformer2DModel(
            in_channels=4 * LATENT_CHANNELS,
            num_layers=depth[0],
            num_single_layers=depth[1],
            attention_head_dim=sum(axes_dim),
            num_attention_heads=num_heads,
            joint_attention_dim=t5.config.d_model,
            pooled_projection_dim=clip_config().hidden_size,
            axes_dims_rope=axes_dim,
        )
        FluxPipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            vae=identity_vae(),
            text_encoder=CLIPTextModel(clip_config()),
            tokenizer=clip_tokenizer(),
            text_encoder_2=t5,
            tokenizer_2=t5_tokenizer(),
        ).save_pretrained(folder)
    return Path(folder)


def identity_vae() -> Any:
    """Create an AutoencoderKL whose latents are the pixels, (x - 0.05) * 1.5, to about 1e-5.

    Its residual blocks add zero. What remains between the first and the last convolution is a group
    norm and z sigmoid(z). Each channel x passes them as a group (x, -x, c, -c), which has mean 0
    and, for large c, standard deviation c / sqrt(2). The last convolution subtracts the first two
    outputs: z sigmoid(z) + z sigmoid(-z) = z.

    Returns:
        The AutoencoderKL.
    """
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(4 * LATENT_CHANNELS,),
        norm_num_groups=LATENT_CHANNELS,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5,
        shift_factor=0.05,
    )
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        for half in (vae.encoder, vae.decoder):
            _pass_through(half)
        # Log variances of the latents: no noise.
        vae.encoder.conv_out.bias[LATENT_CHANNELS:] = -30.0
    return vae


def _pass_through(half: Any) -> None:
    large = 300.0
    for channel in range(LATENT_CHANNELS):
        first = 4 * channel
        signs = torch.tensor([1.0, -1.0])
        half.conv_in.weight[first : first + 2, channel, 1, 1] = signs
        half.conv_in.bias[first + 2 : first + 4] = large * signs
        half.conv_norm_out.weight[first : first + 2] = large / 2**0.5
        half.conv_out.weight[channel, first : first + 2, 1, 1] = signs

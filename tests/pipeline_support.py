"""Random text-to-image pipelines of diffusers, small enough to draw in a moment."""

from pathlib import Path

import torch

LETTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]


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
            tokenizer=_tokenizer(),
            text_encoder_2=_text_encoder(),
            tokenizer_2=_tokenizer(),
            text_encoder_3=_t5_encoder(),
            tokenizer_3=_t5_tokenizer(),
        ).save_pretrained(folder)
    return folder


def save_tiny_flux(folder: Path) -> Path:
    """FLUX in the hub's layout; draws 256 x 256 unless told."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 6, 6),
        )
        FluxPipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=_vae(),
            text_encoder=CLIPTextModel(_text_config()),
            tokenizer=_tokenizer(),
            text_encoder_2=_t5_encoder(),
            tokenizer_2=_t5_tokenizer(),
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

    return CLIPTextModelWithProjection(_text_config())


def _text_config():
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        hidden_size=16,
        intermediate_size=16,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=len(_vocabulary()),
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def _t5_encoder():
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(_t5_tokenizer()), d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    return T5EncoderModel(config)


def _t5_tokenizer():
    from transformers import T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", *LETTERS, "▁"]
    return T5Tokenizer(vocab=[(piece, 0.0) for piece in pieces], extra_ids=0)


def _tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=_vocabulary(), merges=[], model_max_length=77)


def _vocabulary() -> dict[str, int]:
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{x}</w>" for x in LETTERS)]
    return {word: index for index, word in enumerate(words)}

"""Text states against those of diffusers' own pipelines, on random weights."""

import pytest
import torch

from harope.lab.text.multi_encoder import FluxTextConfig, SD3TextConfig
from harope.lab.text.registry import open_text_encoder
from support.text import CAPTIONS, save_clip, save_t5

T5_LENGTH = 20


@pytest.fixture(scope="module")
def sd3_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd3")
    save_clip(folder, "", seed=0)
    save_clip(folder, "_2", seed=1, width=20, projection=18)
    save_t5(folder, "_3", seed=2)
    (folder / "transformer").mkdir()
    (folder / "transformer/config.json").write_text('{"joint_attention_dim": 40}')
    return folder


@pytest.fixture(scope="module")
def flux_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flux")
    save_clip(folder, "", seed=0)
    save_t5(folder, "_2", seed=1)
    return folder


def their_parts(folder, classes):
    """The text encoders and tokenizers as diffusers' pipelines load them."""
    from transformers import AutoTokenizer

    parts = {}
    for name, model_class in classes.items():
        model = model_class.from_pretrained(folder, subfolder=f"text_encoder{name}")
        parts[f"text_encoder{name}"] = model.eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, subfolder=f"tokenizer{name}")
        parts[f"tokenizer{name}"] = tokenizer
    return parts


def sd3_prompt(folder, with_t5):
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection, T5EncoderModel

    clip = CLIPTextModelWithProjection
    classes = {"": clip, "_2": clip} | ({"_3": T5EncoderModel} if with_t5 else {})
    parts = {"text_encoder_3": None, "tokenizer_3": None} | their_parts(folder, classes)
    transformer = SD3Transformer2DModel(
        sample_size=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=40,
        pooled_projection_dim=30,
        pos_embed_max_size=4,
    )
    pipeline = StableDiffusion3Pipeline(transformer=transformer, scheduler=None, vae=None, **parts)
    with torch.no_grad():
        states, _, pooled, _ = pipeline.encode_prompt(
            CAPTIONS, None, None, do_classifier_free_guidance=False, max_sequence_length=T5_LENGTH
        )
    return states, pooled


@pytest.mark.parametrize("with_t5", [True, False])
def test_sd3_states_are_those_of_diffusers(sd3_folder, with_t5):
    config = SD3TextConfig(path=str(sd3_folder), length=T5_LENGTH, with_t5=with_t5)
    encoder = open_text_encoder(config)
    ours = encoder.encode(CAPTIONS)
    states, pooled = sd3_prompt(sd3_folder, with_t5)
    torch.testing.assert_close(ours.states, states, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.pooled, pooled, rtol=0, atol=1e-6)
    assert ours.states.shape == (3, 77 + T5_LENGTH, 40)
    assert ours.pooled.shape == (3, encoder.pooled_channels) == (3, 30)
    assert ours.mask.all()


def test_flux_states_are_those_of_diffusers(flux_folder):
    from diffusers import FluxPipeline
    from transformers import CLIPTextModel, T5EncoderModel

    ours = open_text_encoder(FluxTextConfig(path=str(flux_folder), length=T5_LENGTH)).encode(
        CAPTIONS
    )
    parts = their_parts(flux_folder, {"": CLIPTextModel, "_2": T5EncoderModel})
    pipeline = FluxPipeline(transformer=None, scheduler=None, vae=None, **parts)
    with torch.no_grad():
        states, pooled, _ = pipeline.encode_prompt(CAPTIONS, max_sequence_length=T5_LENGTH)
    torch.testing.assert_close(ours.states, states, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.pooled, pooled, rtol=0, atol=1e-6)
    assert ours.states.shape == (3, T5_LENGTH, 40)
    assert ours.pooled.shape == (3, 16)
    assert ours.mask.all()

"""Pipelines of diffusers whose transformer holds an encoding."""

import pytest
import torch

import harope
from harope.integrations import load_adapters, save_adapters
from harope.lab.recipes.tiny_flux import save_tiny_flux
from harope.lab.recipes.tiny_sd3 import save_tiny_sd3
from support.host import move_encodings

pytestmark = pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")


def open_flux(folder):
    from diffusers import FluxPipeline

    return FluxPipeline.from_pretrained(folder)


def open_sd3(folder):
    from diffusers import StableDiffusion3Pipeline

    return StableDiffusion3Pipeline.from_pretrained(folder)


KINDS = {"flux": (save_tiny_flux, open_flux), "sd3": (save_tiny_sd3, open_sd3)}


@pytest.fixture(params=KINDS)
def opened(request, tmp_path):
    """A function that opens the same pipeline at every call."""
    save, open_it = KINDS[request.param]
    folder = save(tmp_path / "pipeline")

    def make():
        pipeline = open_it(folder)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return make


def draw(pipeline):
    generator = torch.Generator().manual_seed(0)
    sizes = {"height": 16, "width": 16, "num_inference_steps": 2, "max_sequence_length": 16}
    out = pipeline("a red cube", generator=generator, output_type="latent", **sizes)
    return out.images


def test_the_basis_alone_draws_the_same_pictures_and_a_trained_one_others(opened):
    pipeline = opened()
    before = draw(pipeline)
    harope.install(pipeline.transformer, "harope-v1", frequencies="host")
    torch.testing.assert_close(draw(pipeline), before, rtol=0, atol=1e-5)
    move_encodings(pipeline.transformer, 1.0)
    assert not torch.allclose(draw(pipeline), before, atol=1e-4)


def test_any_encoding_draws(opened):
    for encoding in ("none", "mixed", "string-circulant", "video"):
        pipeline = opened()
        harope.install(pipeline.transformer, encoding)
        assert draw(pipeline).isfinite().all()


def test_both_files_of_a_fine_tuning_come_back_in_a_stock_pipeline(opened, tmp_path):
    from peft import LoraConfig

    pipeline = opened()
    before = draw(pipeline)
    transformer = harope.install(pipeline.transformer, "harope-v1", frequencies="host")
    transformer.add_adapter(
        LoraConfig(
            r=2, target_modules=["to_q"], modules_to_save=["harope"], init_lora_weights=False
        )
    )
    move_encodings(transformer, 1.0)
    save_adapters(transformer, tmp_path / "tuned")
    again = load_adapters(opened(), tmp_path / "tuned")
    expected = draw(pipeline)
    torch.testing.assert_close(draw(again), expected)
    assert not torch.allclose(expected, before, atol=1e-4)


def test_dit_pipeline_draws_with_an_encoding():
    from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline

    from support.host import dit

    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32,),
        layers_per_block=1,
    )
    pipeline = DiTPipeline(transformer=dit(), vae=vae, scheduler=DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)

    def picture():
        generator = torch.Generator().manual_seed(0)
        out = pipeline([1], generator=generator, num_inference_steps=2, output_type="np")
        return torch.as_tensor(out.images)

    before = picture()
    harope.install(pipeline.transformer, "harope-v1", frequencies="host")
    torch.testing.assert_close(picture(), before, rtol=0, atol=1e-4)
    harope.remove(pipeline.transformer)
    harope.install(pipeline.transformer, "harope")
    assert not torch.allclose(picture(), before, atol=1e-3)

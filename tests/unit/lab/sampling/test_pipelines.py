"""Pictures of prompts by a diffusers pipeline."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harope.lab.recipes.tiny_flux import save_random_flux
from harope.lab.recipes.tiny_sd3 import save_random_sd3
from harope.lab.sampling.generators import TextToImageGenerator, load_text_to_image_generator
from harope.lab.sampling.pipelines import PipelineImageGenerator, PipelineOptions

OPTIONS = PipelineOptions(num_steps=2, guidance=3.0, height=16, width=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_random_sd3(tmp_path_factory.mktemp("hub") / "sd3")


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    return save_random_flux(tmp_path_factory.mktemp("hub") / "flux")


@pytest.fixture(scope="module", params=["folder", "flux"], ids=["sd3", "flux"])
def generator(request):
    return load_text_to_image_generator(request.getfixturevalue(request.param), OPTIONS)


def test_a_pipeline_folder_draws_bytes(generator):
    assert isinstance(generator, TextToImageGenerator)
    images = generator.generate(["a red cat", "a dog"], [3, 4])
    assert (images.shape, images.dtype) == ((2, 16, 16, 3), torch.uint8)
    assert images.float().std() > 10


def test_a_picture_depends_on_its_prompt_and_seed_alone(generator):
    """One of 255 steps is allowed: sums of a batch may be taken in another order."""
    together = generator.generate(["a red cat", "a dog", "a dog"], [3, 4, 5])
    alone = torch.cat([generator.generate(["a dog"], [5]), generator.generate(["a red cat"], [3])])
    difference = together[[2, 0]].int() - alone.int()
    assert difference.abs().max() <= 1
    assert not torch.equal(together[1], together[2])
    assert not torch.equal(generator.generate(["a dog"], [3]), alone[1:])


def test_the_pictures_are_those_of_the_library(folder):
    from diffusers import StableDiffusion3Pipeline

    pipeline = StableDiffusion3Pipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    (picture,) = pipeline(
        "a dog",
        generator=torch.Generator().manual_seed(5),
        num_inference_steps=2,
        guidance_scale=3.0,
        output_type="np",
    ).images
    expected = torch.from_numpy(picture) * 255
    drawn = load_text_to_image_generator(folder, OPTIONS).generate(["a dog"], [5])[0]
    assert (drawn - expected).abs().max() < 0.51


def test_the_description_names_model_sampler_and_files(flux):
    described = load_text_to_image_generator(flux, OPTIONS).describe()
    assert described["model"] == str(flux)
    assert described["pipeline"] == "FluxPipeline"
    assert described["scheduler"] == "FlowMatchEulerDiscreteScheduler"
    assert described["dtype"] == "float32"
    assert (described["num_inference_steps"], described["guidance_scale"]) == (2, 3.0)
    assert (described["encoding"], described["lora"]) == (None, None)


def test_defaults_of_the_pipeline_are_described(folder):
    described = load_text_to_image_generator(folder).describe()
    assert (described["num_inference_steps"], described["guidance_scale"]) == (28, 7.0)


def test_another_size_is_drawn(folder):
    generator = load_text_to_image_generator(
        folder, PipelineOptions(num_steps=1, height=8, width=12)
    )
    assert generator.generate(["a dog"], [0]).shape == (1, 8, 12, 3)


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"neither a saved diffusers pipeline .* nor a run of a text"
    ):
        load_text_to_image_generator(tmp_path)


@pytest.mark.parametrize("name", ["num_steps", "height", "width", "text_length"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        PipelineOptions(**{name: 0})


class Recorder:
    """A pipeline that records what is done to it."""

    dtype = torch.float32
    scheduler = None

    def __init__(self):
        self.transformer, self.calls = object(), []

    def __call__(self, prompt, generator, output_type, num_inference_steps=7):
        raise NotImplementedError

    def load_lora_weights(self, path, local_files_only):
        self.calls.append(("lora", path, local_files_only))

    def to(self, device):
        return self

    def set_progress_bar_config(self, disable):
        pass


@pytest.fixture
def recorder(monkeypatch):
    pipeline = Recorder()
    import diffusers

    monkeypatch.setattr(
        "harope.lab.sampling.pipelines.load_encoding",
        lambda model, path: pipeline.calls.append(("encoding", model, path)),
    )

    load = SimpleNamespace(from_pretrained=lambda *_, **__: pipeline)
    monkeypatch.setattr(diffusers, "DiffusionPipeline", load)
    return pipeline


def test_an_encoding_is_installed_before_lora_weights_are_loaded(recorder):
    options = PipelineOptions(encoding=Path("e"), lora=Path("l"))
    described = PipelineImageGenerator.load(Path("p"), options, "cpu").describe()
    assert recorder.calls == [("encoding", recorder.transformer, Path("e")), ("lora", "l", True)]
    assert described["encoding"] == str(Path("e").resolve())
    assert described["lora"] == str(Path("l").resolve())


def test_an_encoding_needs_a_transformer(recorder):
    del recorder.transformer
    with pytest.raises(ValueError, match="p is a Recorder, which has no transformer"):
        PipelineImageGenerator.load(Path("p"), PipelineOptions(encoding=Path("e")), "cpu")


def test_what_the_call_does_not_take_is_refused():
    with pytest.raises(ValueError, match="is a Recorder, which does not accept guidance_scale"):
        PipelineImageGenerator(Recorder(), PipelineOptions(guidance=2.0), Path("p"))
    with pytest.raises(ValueError, match="is a type, which does not generate images from prompts"):
        PipelineImageGenerator(Recorder, PipelineOptions(), Path("p"))

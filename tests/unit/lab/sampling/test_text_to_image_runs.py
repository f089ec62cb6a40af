import json
import shutil
from dataclasses import replace

import pytest
import torch

from harope.lab.data.image_io import to_uint8
from harope.lab.sampling.generators import TextToImageGenerator, load_text_to_image_generator
from harope.lab.sampling.pipelines import PipelineOptions
from harope.lab.sampling.runs import RunOptions, load_decoder
from harope.lab.sampling.text_to_image_runs import RunImageGenerator
from harope.lab.text import open_text_encoder
from harope.lab.training import train
from harope.lab.training.tasks.text_to_image import sample_captions
from harope.models.mmdit import read_mmdit
from support.mmdit import scenes_config

PROMPTS = ["a picture of a star", "a picture of two circles", "a picture of a red cross"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run whose weights differ from their initialisation."""
    run = tmp_path_factory.mktemp("runs") / "run"
    config = scenes_config(steps=6)
    config = replace(config, optimizer=replace(config.optimizer, lr=0.05, warmup_steps=0))
    train(config, run, quiet=True)
    return run


def test_a_run_samples_like_its_unfolded_model(run):
    generator = load_text_to_image_generator(run)
    assert isinstance(generator, TextToImageGenerator)
    config = scenes_config()
    encoder = open_text_encoder(config.text)
    model, _ = read_mmdit(run)
    expected = sample_captions(
        model,
        config.create_process(),
        encoder.encode(PROMPTS),
        encoder.encode([""]),
        shape=(3, 8, 8),
        seeds=[4, 5, 6],
        config=config.sampling,
    )
    drawn = generator.generate(PROMPTS, [4, 5, 6])
    assert len(drawn.unique()) > 8
    assert (drawn.int() - to_uint8(expected).int()).abs().max() <= 1


def test_an_image_depends_only_on_its_prompt_and_seed(run):
    generator = load_text_to_image_generator(run)
    whole = generator.generate(PROMPTS, [4, 5, 6])
    assert torch.equal(generator.generate(PROMPTS[1:], [5, 6]), whole[1:])
    assert not torch.equal(generator.generate(PROMPTS[1:2], [6]), whole[1:2])


def test_options_change_the_images_and_are_described(run):
    plain = load_text_to_image_generator(run)
    options = [
        RunOptions(num_steps=1),
        RunOptions(sampler="euler"),
        RunOptions(guidance=1.0),
        RunOptions(weights="model"),
    ]
    described = {json.dumps(plain.describe())}
    for option in options:
        other = RunImageGenerator.load(run, option, "cpu")
        assert not torch.equal(
            other.generate(PROMPTS, [4, 5, 6]), plain.generate(PROMPTS, [4, 5, 6])
        )
        described.add(json.dumps(other.describe()))
    assert len(described) == 5


def test_other_sizes_use_the_requested_scaling(run):
    drawn = [
        RunImageGenerator.load(run, RunOptions(height=12, width=6, scaling=method), "cpu").generate(
            PROMPTS, [4, 5, 6]
        )
        for method in ("extrapolate", "interpolate")
    ]
    assert drawn[0].shape == (3, 12, 6, 3)
    assert not torch.equal(*drawn)


def test_a_checkpoint_of_the_run_is_read_too(run):
    (checkpoint,) = (run / "checkpoints").iterdir()
    ours, theirs = load_text_to_image_generator(run), load_text_to_image_generator(checkpoint)
    assert ours.describe() == theirs.describe()


@pytest.mark.parametrize("text", [None, '{"recipe": ', "[]"])
def test_a_run_without_its_configuration_is_refused(run, tmp_path, text):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/config.json").unlink()
    if text is not None:
        (tmp_path / "run/config.json").write_text(text)
    with pytest.raises(ValueError, match=r"run/config\.json"):
        load_text_to_image_generator(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RunOptions(height=5), "height 5 and width 8 must be multiples of the patch size 2"),
        (RunOptions(sampler="ddim"), "sampler 'ddim' does not go with RectifiedFlow"),
        (PipelineOptions(), "requires RunOptions, got PipelineOptions"),
    ],
)
def test_options_that_do_not_fit_are_named(run, options, message):
    with pytest.raises(ValueError, match=message):
        load_text_to_image_generator(run, options)


def test_latents_require_a_decoder():
    with pytest.raises(ValueError, match="latents of 4 channels: pass --vae"):
        load_decoder(None, 4, "cpu")
    assert load_decoder(None, 3, "cpu") is None

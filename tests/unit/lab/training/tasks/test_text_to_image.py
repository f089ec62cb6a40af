from dataclasses import replace

import pytest
import torch

from harope.lab.data import CaptionedFolderDataConfig
from harope.lab.data.synthetic import make_captioned_folder
from harope.lab.recipes.tiny_sd3 import save_tiny_clip
from harope.lab.text import PretrainedTextConfig
from harope.lab.training.tasks.text_embeddings import TextEmbeddingConfig
from harope.lab.training.tasks.text_to_image import TextToImage, sample_captions
from harope.models.mmdit import run_mmdit
from support.mmdit import scenes_config

CPU = torch.device("cpu")


def make_task(**changes) -> TextToImage:
    torch.manual_seed(0)
    task = TextToImage(scenes_config(**changes), CPU)
    for parameter in task.model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return task


def test_micro_batches_have_the_losses_of_the_complete_batch():
    task = make_task(caption_dropout=0.5)
    whole = task.losses(task.model, task.source.samples(range(6)), 7, 0)["loss"]
    parts = [
        task.losses(task.model, task.source.samples(range(i, i + 2)), 7, i)["loss"]
        for i in (0, 2, 4)
    ]
    torch.testing.assert_close(whole, torch.cat(parts))
    assert len(whole.unique()) == 6


def test_steps_differ_and_a_step_is_reproducible():
    task = make_task()
    batch = task.source.samples(range(6))
    first, again, other = (task.losses(task.model, batch, step, 0)["loss"] for step in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()


def test_about_the_configured_share_of_captions_becomes_the_empty_one():
    task, seen = make_task(batch_size=1000, caption_dropout=0.3), []

    def network(**inputs):
        empty = task._null
        states = (inputs["encoder_hidden_states"] == empty.states).flatten(1).all(dim=1)
        pooled = (inputs["pooled_projections"] == empty.pooled).all(dim=1)
        assert torch.equal(states, pooled)
        seen.append(states.float().mean().item())
        return (inputs["hidden_states"],)

    task.losses(network, task.source.samples(range(1000)), 0, 0)
    # Five standard deviations of a binomial.
    assert abs(seen[0] - 0.3) < 0.0725


def test_the_network_is_told_times_up_to_1000_and_the_states_of_its_captions():
    task, seen = make_task(caption_dropout=0.0), []

    def network(**inputs):
        seen.append(inputs)
        return (inputs["hidden_states"],)

    batch = task.source.samples(range(6))
    task.losses(network, batch, 0, 0)
    assert torch.equal(seen[0]["encoder_hidden_states"], batch[1])
    assert torch.equal(seen[0]["pooled_projections"], batch[2])
    assert 100 < seen[0]["timestep"].mean() < 900


def test_states_of_each_step_give_the_losses_of_cached_ones(tmp_path):
    make_captioned_folder(tmp_path / "pictures", num=6, image_size=8)
    clip = save_tiny_clip(tmp_path / "clip")
    config = scenes_config()
    config = replace(
        config,
        data=CaptionedFolderDataConfig(root=str(tmp_path / "pictures"), image_size=8),
        text=PretrainedTextConfig(path=str(clip), length=64, layer="penultimate"),
        model=replace(config.model, text_channels=16, pooled_channels=16),
    )
    losses = []
    for states in (
        TextEmbeddingConfig(folder=str(tmp_path / "text")),
        TextEmbeddingConfig(when="each-step"),
    ):
        torch.manual_seed(0)
        task = TextToImage(replace(config, states=states), CPU)
        for parameter in task.model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        losses.append(task.losses(task.model, task.source.samples(range(6)), 0, 0)["loss"])
    torch.testing.assert_close(*losses)


def test_a_report_is_a_grid_with_its_captions_beside(tmp_path):
    task = make_task()
    task.model.eval()
    assert task.report(tmp_path, 2) == {}
    assert (tmp_path / "samples/step-00000002.png").stat().st_size > 0
    lines = (tmp_path / "samples/captions.txt").read_text().splitlines()
    places = ["row 1, column 1", "row 1, column 2", "row 2, column 1"]
    assert lines == [
        f"{place}: {prompt}" for place, prompt in zip(places, task.config.prompts, strict=True)
    ]


def test_a_sample_depends_on_its_caption_and_seed_alone():
    task = make_task()
    captions = task._embed(["a picture of a star", "a picture of two circles"])

    def draw(rows, seeds):
        return sample_captions(
            task.model.eval(),
            task.process,
            type(captions)(*(values[rows] for values in captions)),
            task._null,
            shape=(3, 8, 8),
            seeds=seeds,
            config=task.config.sampling,
        )

    both = draw([0, 1], [5, 6])
    torch.testing.assert_close(both[1:], draw([1], [6]))
    assert not torch.allclose(draw([0], [6]), both[1:], atol=1e-3)
    assert not torch.allclose(draw([1], [5]), both[1:], atol=1e-3)


def test_guidance_goes_from_the_empty_caption_towards_the_caption():
    task = make_task()
    task.model.eval()
    captions = task._embed(["a picture of a star"])
    config = replace(task.config.sampling, sampler="euler", num_steps=1, guidance=3.0)
    drawn = sample_captions(
        task.model, task.process, captions, task._null, shape=(3, 8, 8), seeds=[0], config=config
    )
    noise = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))[None]
    # One Euler step from time 1 lands on the predicted data.
    with torch.no_grad():
        towards, base = (
            run_mmdit(task.model, noise, torch.tensor([1000.0]), text.states, text.pooled)
            for text in (captions, task._null)
        )
    torch.testing.assert_close(drawn, base + 3 * (towards - base), rtol=1e-4, atol=1e-4)


def test_a_text_encoder_that_does_not_fit_is_named():
    config = scenes_config()
    wide = replace(config, text=replace(config.text, channels=16))
    with pytest.raises(ValueError, match="set --text_channels 16 --pooled_channels 16"):
        TextToImage(wide, CPU)


def test_data_that_does_not_fit_is_refused():
    config = scenes_config()
    grey = replace(config, model=replace(config.model, in_channels=1))
    with pytest.raises(ValueError, match=r"does not fit model\.in_channels 1"):
        TextToImage(grey, CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"caption_dropout": 1.0}, "caption_dropout 1.0 must lie"),
    ],
)
def test_settings_that_say_nothing_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(scenes_config(), **changes)

"""The validation loss: fixed images, times and noise, whatever the batches and the training do."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from harope.diffusion import FlowConfig, GaussianConfig, GaussianDiffusion, RectifiedFlow
from harope.lab.data.captioned.scenes import CaptionedScenesDataConfig
from harope.lab.data.labelled.digits import DigitsDataConfig, DigitsDataset
from harope.lab.data.labelled.idx import IdxDataConfig
from harope.lab.data.labelled.scenes import ScenesDataConfig, ScenesDataset
from harope.lab.data.registry import (
    VALIDATION_SEED,
    open_captioned_validation_data,
    open_validation_data,
)
from harope.lab.recipes import get_recipe
from harope.lab.training import train
from harope.lab.training.logging import has_metric, read_metrics
from harope.lab.training.tasks import create_task
from harope.lab.training.tasks.flux_lora.task import flux_times_at, sample_flux_times
from harope.lab.training.validation import (
    HELD_OUT_LOSS,
    TRAINING_DATA_LOSS,
    FixedNoise,
    ValidationImages,
    validation_metrics,
)

CPU = torch.device("cpu")
CONFIG = get_recipe("scenes-dit").smoke_config(Path())


def digits(count, held_out=None):
    return ValidationImages(DigitsDataset(), held_out, count)


def gathered(images, batch_size):
    """All images, fractions of times and noise."""
    parts = [
        (batch[0], noise.fractions, noise.sample((1, 2, 2), CPU)[0])
        for batch, noise in images.batches(batch_size)
    ]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("batch_size", [7, 50, 1000])
def test_images_times_and_noise_do_not_depend_on_batches(batch_size):
    parts = gathered(digits(50), batch_size), gathered(digits(50), 10)
    for ours, expected in zip(*parts, strict=True):
        assert torch.equal(ours, expected)


def test_images_of_finite_data_are_spread_over_it():
    (labels,) = {tuple(sorted(set(batch[1].tolist()))) for batch, _ in digits(40).batches(64)}
    assert labels == tuple(range(10))
    assert len(gathered(digits(10_000), 64)[0]) == len(DigitsDataset())


@pytest.mark.parametrize("count", [16, 100, 256])
def test_times_are_spread_evenly(count):
    fractions = torch.tensor([(n + 0.5) * 0.6180339887498949 % 1 for n in range(count)])
    images = ValidationImages(ScenesDataset(8), None, count)
    found = torch.cat([noise.fractions for _, noise in images.batches(64)])
    torch.testing.assert_close(found, fractions, atol=1e-4, rtol=0)
    # Every tenth of the distribution has its share, to within two images.
    counts = torch.histc(found, 10, 0, 1)
    assert (counts - count / 10).abs().max() <= 2
    assert found.min() > 0
    assert found.max() < 1


def test_noise_is_standard_normal_and_differs_between_images():
    noise = FixedNoise(torch.zeros(64), range(64)).sample((3, 8, 8), CPU, count=2)
    assert not torch.equal(*noise)
    for part in noise:
        assert abs(float(part.mean())) < 0.05
        assert float(part.std()) == pytest.approx(1, abs=0.05)
        assert len(part.flatten(1).unique(dim=0)) == 64


@pytest.mark.parametrize(
    "process",
    [
        RectifiedFlow(),
        RectifiedFlow(FlowConfig(logit_mean=1.0, logit_std=0.5)),
        GaussianDiffusion(GaussianConfig()),
    ],
)
def test_times_are_quantiles_of_those_of_training(process):
    fractions = (torch.arange(999) + 1) / 1000
    sampled = process.sample_times(200_000, torch.Generator().manual_seed(0), CPU)
    times = process.times_at(fractions)
    assert times.dtype == torch.float32
    expected = torch.quantile(sampled, fractions)
    scale = 1000 if isinstance(process, GaussianDiffusion) else 1
    assert (times - expected).abs().max() / scale < 0.01


@pytest.mark.parametrize("kind", ["logit-normal", "uniform"])
def test_times_of_flux_are_quantiles_of_those_of_training(kind):
    fractions = (torch.arange(999) + 1) / 1000
    sampled = sample_flux_times(200_000, kind, 0.7, torch.Generator().manual_seed(0))
    times = flux_times_at(fractions, kind, 0.7)
    assert (times - torch.quantile(sampled, fractions)).abs().max() < 0.01


def test_held_out_data_is_used_where_there_is_some(tmp_path):
    scenes = open_validation_data(ScenesDataConfig(image_size=8), 0)
    assert not torch.equal(scenes.samples([0])[0], ScenesDataset(8, 0).samples([0])[0])
    other = open_validation_data(ScenesDataConfig(image_size=8), VALIDATION_SEED)
    assert not torch.equal(scenes.samples([0])[0], other.samples([0])[0])
    captioned = open_captioned_validation_data(CaptionedScenesDataConfig(image_size=8), 0)
    assert captioned.shape == (3, 8, 8)
    test = open_validation_data(DigitsDataConfig(split="train"), 0)
    assert len(test) == len(DigitsDataset(split="test"))
    assert open_validation_data(DigitsDataConfig(), 0) is None
    assert open_validation_data(IdxDataConfig(root=str(tmp_path)), 0) is None
    assert digits(4).metric == TRAINING_DATA_LOSS
    assert digits(4, test).metric == HELD_OUT_LOSS
    with pytest.raises(ValueError, match="held-out images have the shape"):
        digits(4, scenes)


def test_the_loss_is_that_of_the_conditional_model_and_leaves_random_numbers_alone(tmp_path):
    torch.manual_seed(0)
    task = create_task(replace(CONFIG, validation_images=10), CPU)
    for parameter in task.model.final_layer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    task.model.eval()
    state = torch.get_rng_state()
    images = ValidationImages(task.source, open_validation_data(CONFIG.data, 0), 10)
    losses = [
        validation_metrics(task.model, images, task.validation_losses, size)["validation_loss"]
        for size in (1, 4, 10)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    total = 0.0
    with torch.no_grad():
        for (x0, labels), noise in images.batches(1):
            (epsilon,) = noise.sample(x0.shape[1:], CPU)
            times = task.process.times_at(noise.fractions)
            network = partial(task.model, y=labels)
            total += float(task.process.losses(network, x0, epsilon, times)["loss"])
    assert losses[0] == pytest.approx(total / 10, rel=1e-5)


@pytest.mark.parametrize(
    ("recipe", "metric"),
    [
        ("scenes-dit", HELD_OUT_LOSS),
        ("scenes-mmdit", HELD_OUT_LOSS),
        ("digits-dit", TRAINING_DATA_LOSS),
        ("coco-mmdit", TRAINING_DATA_LOSS),
        ("flux-lora", TRAINING_DATA_LOSS),
    ],
)
def test_every_diffusion_task_reports_it(tmp_path, recipe, metric):
    config = get_recipe(recipe).smoke(tmp_path)
    config = replace(config, steps=2, sample_every=1, report_to=())
    train(config, tmp_path / "run", quiet=True)
    first, last = read_metrics(tmp_path / "run")
    assert first[metric] != last[metric]
    assert has_metric(tmp_path / "run", 2, metric)


def test_training_does_not_depend_on_it(tmp_path):
    lines = []
    for count in (0, 5):
        config = replace(CONFIG, validation_images=count, sample_every=1, log_every=1, report_to=())
        train(config, tmp_path / str(count), quiet=True)
        lines.append(read_metrics(tmp_path / str(count)))
    assert not any(HELD_OUT_LOSS in line for line in lines[0])
    assert all(HELD_OUT_LOSS in line for line in lines[1])
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]


def test_a_report_that_was_killed_before_its_loss_was_stored_is_made_again(tmp_path):
    run, config = tmp_path / "run", replace(CONFIG, report_to=())
    train(config, run, quiet=True)
    *_, last = read_metrics(run)
    kept = {name: value for name, value in last.items() if name != HELD_OUT_LOSS}
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines()[:-1]
    file.write_text("\n".join([*lines, json.dumps(kept)]) + "\n")
    train(config, run, quiet=True)
    assert read_metrics(run)[-1] == last

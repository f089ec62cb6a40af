"""What a line of metrics.jsonl says besides the losses."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from harope.lab.recipes import get_recipe
from harope.lab.training.logging import (
    MetricsLogger,
    TimedIterator,
    memory_in_use,
    read_metrics,
    singular_value_range,
)
from harope.lab.training.loop import Trainer
from harope.lab.training.tasks import create_task
from harope.models.dit import DiT
from harope.rope.basis import SVD

CPU = torch.device("cpu")
CONFIG = replace(get_recipe("scenes-dit").smoke_config(Path()), report_to=())


def small_dit(encoding):
    shape = {"depth": 2, "width": 32, "num_heads": 2, "patch_size": 4}
    return DiT(num_classes=2, encoding=encoding, **shape)


def test_waiting_is_measured():
    def slow():
        yield 1
        time.sleep(0.05)
        yield 2

    batches = TimedIterator(slow())
    assert next(batches) == 1
    assert batches.seconds < 0.05
    assert list(batches) == [2]
    assert batches.seconds >= 0.05


def test_the_range_of_singular_values_is_over_all_layers():
    model = small_dit("harope")
    assert singular_value_range(model) == pytest.approx(
        {"singular_values_min": 1.0, "singular_values_max": 1.0}
    )
    with torch.no_grad():
        first, second = (part for part in model.modules() if isinstance(part, SVD))
        first.raw_scale[0, 0] = -1.0
        second.raw_scale[1, 2] = 3.0
        values = torch.linalg.svdvals(torch.stack([first()[0], second()[0]]))
    found = singular_value_range(model)
    assert found["singular_values_min"] == pytest.approx(float(values.min()), rel=1e-5)
    assert found["singular_values_max"] == pytest.approx(float(values.max()), rel=1e-5)


@pytest.mark.parametrize("encoding", ["axial", "none", "ape"])
def test_other_encodings_have_no_singular_values(encoding):
    assert singular_value_range(small_dit(encoding)) == {}


def test_memory_is_that_of_this_process():
    before = memory_in_use(CPU)
    kept = torch.ones(2**25)
    assert memory_in_use(CPU) - before > 2**25
    assert kept.any()


def test_a_line_has_speed_waiting_and_memory(tmp_path):
    logger = MetricsLogger(
        Accelerator(cpu=True),
        CONFIG,
        small_dit("harope"),
        {},
        tmp_path,
        0,
        0.0,
        title="",
        show=False,
    )
    for step in (1, 2):
        logger.add(step, {"loss": torch.tensor(float(step))}, torch.tensor(3.0))
    logger.write(2, 4.0, 1.0)
    logger.add(3, {"loss": torch.tensor(1.0)}, None)
    logger.write(3, 6.0, 1.5)
    logger.close()
    first, second = read_metrics(tmp_path)
    assert first["loss"] == 1.5
    assert first["grad_norm"] == 3.0
    assert first["data_wait"] == 0.25
    assert second["data_wait"] == 0.25
    assert second["images_per_second"] == CONFIG.batch_size / 2
    assert "grad_norm" not in second
    assert 0 < first["memory_gib"] < 1000


@pytest.mark.parametrize("clip", [None, 1e9])
def test_the_norm_of_the_gradient_is_logged_with_and_without_clipping(tmp_path, clip):
    config = replace(
        CONFIG, optimizer=replace(CONFIG.optimizer, clip_norm=clip), steps=2, log_every=1
    )
    torch.manual_seed(0)
    trainer = Trainer(create_task(config, CPU), tmp_path, Accelerator(cpu=True))
    for parameter in trainer.model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    norm = trainer.update(0)
    count = sum(parameter.numel() for parameter in trainer.model.parameters())
    assert float(norm) == pytest.approx(0.5 * count**0.5, rel=1e-5)

"""Compilation, precision and data workers by device."""

import pytest
import torch

from harope.lab.training import execution
from harope.lab.training.execution import (
    autocast,
    compiles,
    describe_precision,
    inference_precision,
    num_data_workers,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def machine(monkeypatch):
    """A machine with a current GPU, a C compiler and 16 cores."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(execution.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(execution, "find_spec", lambda name: name)
    monkeypatch.setattr(execution.os, "sched_getaffinity", lambda _: range(16))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


@pytest.mark.parametrize("choice", [True, False])
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_what_is_said_is_done(choice, device):
    assert compiles(choice, device) == choice
    assert num_data_workers(3, device) == 3


def test_networks_are_compiled_for_gpus_alone(machine):
    assert compiles("auto", CUDA)
    assert not compiles("auto", CPU)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (torch.cuda, "get_device_capability", lambda _: (6, 1)),
        (execution.shutil, "which", lambda _: None),
        (execution, "find_spec", lambda _: None),
    ],
    ids=["old card", "no compiler", "no Triton"],
)
def test_a_gpu_that_cannot_be_compiled_for_is_left(machine, monkeypatch, place, name, value):
    monkeypatch.setattr(place, name, value)
    assert not compiles("auto", CUDA)


@pytest.mark.parametrize(("processes", "expected"), [("1", 8), ("4", 3), ("16", 0), ("64", 0)])
def test_processes_share_the_cores(machine, monkeypatch, processes, expected):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert num_data_workers("auto", CUDA) == expected
    assert num_data_workers("auto", CPU) == 0


def test_models_are_evaluated_as_trained_on_gpus_alone():
    assert inference_precision(None, "bf16", CUDA) == "bf16"
    assert inference_precision(None, "bf16", "cpu") == "no"
    assert inference_precision("no", "bf16", CUDA) == "no"
    assert inference_precision("bf16", "no", "cpu") == "bf16"


def test_float32_is_not_described():
    assert describe_precision("no") == {}
    assert describe_precision("bf16") == {"precision": "bf16"}


@pytest.mark.parametrize(("precision", "dtype"), [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_products_have_the_precision(precision, dtype):
    with autocast(precision, "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype

"""What processes check before they train; trainings are in `tests/integration/test_parallel.py`."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harope import DiT, DiTConfig
from harope.lab.recipes import get_recipe
from harope.lab.training import parallel
from harope.lab.training.optim import transformer_blocks
from harope.lab.training.parallel import gather, start_processes, unsharded
from harope.lab.training.serialization import override


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Return a function that starts a training in one of so many processes."""

    def check(processes, **fields):
        state = SimpleNamespace(num_processes=processes)
        monkeypatch.setattr(parallel, "this_process", lambda: state)
        config = get_recipe("digits-dit").smoke_config(tmp_path)
        return start_processes(override(config, fields))

    return check


@pytest.mark.parametrize(
    ("processes", "fields", "message"),
    [
        (1, {"parallel": "fsdp"}, "parallel is fsdp, but there is only one process"),
        (4, {"batch_size": 6}, "batch_size 6 cannot .* 4 processes: start 3, .* a multiple of 4"),
        (
            3,
            {"batch_size": 8, "accumulation": 2},
            "8 / accumulation 2 .* start 2, .* multiple of 6",
        ),
        (5, {"batch_size": 4}, "among 5 processes: start 4, or set batch_size to a multiple of 5"),
    ],
)
def test_processes_that_do_not_fit_are_refused(start, processes, fields, message):
    with pytest.raises(ValueError, match=message):
        start(processes, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"precision": "fp16"}, "parallel is fsdp, but precision fp16"),
        ({"optimizer.qk_lr_multiplier": 2.0}, "parallel is fsdp, but optimizer.qk_lr_multiplier"),
    ],
)
def test_fields_that_fsdp_excludes_are_refused(start, fields, message):
    with pytest.raises(ValueError, match=message):
        start(2, parallel="fsdp", **fields)


def test_a_model_that_is_not_sharded_stays_as_it_is():
    model = DiT(DiTConfig(depth=2, width=32, num_heads=2, patch_size=2, num_classes=5))
    assert transformer_blocks(model) == list(model.layers)
    before = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    with unsharded(model):
        assert {name: p.data_ptr() for name, p in model.named_parameters()} == before


def test_tensors_are_gathered_for_those_who_keep_them():
    named = {"weight": nn.Parameter(torch.ones(2))}
    assert gather(named, keep=True)["weight"] is named["weight"]
    assert gather(named, keep=False) == {}

"""Outputs of small models of every kind, with encodings in them and without."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import harope
from support.golden import assert_same, read_numbers, seeded, summary
from support.host import CASES as HOSTS
from support.host import move_encodings

TOPIC = "hosts"

ENCODINGS: dict[str, dict[str, Any]] = {
    "harope same": {"name": "harope", "pairing": "same"},
    "harope inverse": {"name": "harope", "pairing": "inverse"},
    "harope inverse, nothing kept": {
        "name": "harope", "pairing": "inverse", "frequencies": "axial", "keep_absolute": False,
    },
    "axial": {"name": "axial"},
    "mixed": {"name": "mixed"},
    "string": {"name": "string"},
}  # fmt: skip
CASES = tuple(HOSTS)


def encodings(host: str) -> dict[str, dict[str, Any]]:
    """The encodings that a kind of model is tried with."""
    absolute = HOSTS[host].absolute is not None
    return {k: v for k, v in ENCODINGS.items() if absolute or "keep_absolute" not in v}


def installed(model: nn.Module, options: dict[str, Any]) -> nn.Module:
    """The model with an encoding whose parameters are away from their start."""
    with warnings.catch_warnings(), seeded():
        warnings.filterwarnings("ignore", message=".* changes what .* computes")
        harope.install(model, **options)
    move_encodings(model)
    return model


def folded(model: nn.Module) -> nn.Module:
    """The model after `fold`; behind QK-norm matrices stay."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the matrices of .* stay")
        return harope.fold(model)


@torch.no_grad()
def numbers(host: str, folder: Path) -> dict[str, Any]:
    """Outputs before, and with every encoding."""
    case = HOSTS[host]
    return {"before": summary(case.run(case.make()))} | {
        name: summary(case.run(installed(case.make(), options)))
        for name, options in encodings(host).items()
    }


@pytest.mark.parametrize("host", CASES)
def test_outputs_are_the_pinned_ones(host, tmp_path):
    assert_same(numbers(host, tmp_path), read_numbers(TOPIC)[host], 2e-5)


@torch.no_grad()
@pytest.mark.parametrize("host", CASES)
def test_outputs_after_fold_and_after_remove_are_the_pinned_ones(host):
    case, pinned = HOSTS[host], read_numbers(TOPIC)[host]
    model = case.make()
    before = case.run(model)
    for name, options in encodings(host).items():
        harope.remove(installed(model, options))
        assert torch.equal(case.run(model), before), name
        found = summary(case.run(folded(installed(case.make(), options))))
        assert_same(found, pinned[name], 2e-5, name)


@pytest.mark.parametrize("host", CASES)
def test_pinned_outputs_tell_the_pairings_apart(host):
    pinned = read_numbers(TOPIC)[host]
    with pytest.raises(AssertionError):
        assert_same(pinned["harope same"], pinned["harope inverse"], 1e-3)

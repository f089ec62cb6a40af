"""Losses of the small recipes' first steps, and the bits of runs that were interrupted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from support.golden import assert_same, command, move_checkpoint, read_numbers, rounded, summary

TOPIC = "training"
STEPS = 20

RECIPES = (
    "scenes-dit",
    "fashion-dit",
    "digits-dit",
    "digits-vit",
    "fashion-vit",
    "scenes-mmdit",
    "emoji-mmdit",
    "flux-lora-emoji",
)
ENCODINGS = {
    "axial": ("--encoding", "axial"),
    "same": ("--encoding", "harope", "--encoding_options.pairing", "same"),
    "inverse": ("--encoding", "harope", "--encoding_options.pairing", "inverse"),
}
# From weights that are not fresh, as HARoPE of both pairings starts as axial RoPE.
MOVED = ("scenes-dit", "digits-vit", "scenes-mmdit", "flux-lora-emoji")

CASES = (
    *(f"{recipe} {encoding}" for recipe in RECIPES for encoding in ENCODINGS),
    *(f"{recipe} {encoding} moved" for recipe in MOVED for encoding in ("same", "inverse")),
)


def train(case: str, run: Path, *fields: object) -> None:
    """The case's run of 20 steps, checkpoints after 10 and 20; its moved weights come first."""
    recipe, encoding, *form = case.split()
    if form and not run.exists():
        _train(recipe, encoding, run, "--optimizer.decay", 0, "--steps", 1)
        move_checkpoint(run / "checkpoints" / "step-00000001")
    _train(recipe, encoding, run, *(("--optimizer.decay", 0) if form else ()), *fields)


def _train(recipe: str, encoding: str, run: Path, *fields: object) -> None:
    command(
        "train", recipe, "--smoke", "--quiet", "--out", run, *ENCODINGS[encoding],
        "--optimizer.warmup_steps", 2, "--log_every", 1, "--checkpoint_every", 10,
        "--sample_every", STEPS, *(() if "--steps" in fields else ("--steps", STEPS)), *fields,
    )  # fmt: skip


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def last_checkpoint(run: Path) -> Path:
    return run / "checkpoints" / f"step-{STEPS:08d}"


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    return {
        f"{path.stem}/{name}": value
        for path in sorted(checkpoint.glob("*.safetensors"))
        for name, value in load_file(path).items()
    }


def numbers(case: str, folder: Path) -> dict[str, Any]:
    """Losses and rates of all steps, and where the encoding's parameters have gone."""
    train(case, folder / "run")
    lines = metrics(folder / "run")
    weights = load_file(last_checkpoint(folder / "run") / "model.safetensors")
    return {
        "losses": rounded(line["loss"] for line in lines),
        "norms": rounded(line["grad_norm"] for line in lines if "grad_norm" in line),
        "rates": rounded(line["lr"] for line in lines),
        "encoding": {n: summary(v, 2) for n, v in sorted(weights.items()) if "harope." in n},
    }


@pytest.mark.parametrize("case", CASES)
def test_losses_are_the_pinned_ones(case, tmp_path):
    found, expected = numbers(case, tmp_path), read_numbers(TOPIC)[case]
    assert len(found["losses"]) == STEPS
    # Adam's first steps follow signs, and so the rounding of gradients near 0.
    assert_same(found.pop("encoding"), expected.pop("encoding"), 5e-3)
    assert_same(found, expected, 1e-4)


@pytest.mark.parametrize("recipe", MOVED)
def test_pinned_losses_tell_the_pairings_apart(recipe):
    pinned = read_numbers(TOPIC)
    same, inverse = (pinned[f"{recipe} {pairing} moved"] for pairing in ("same", "inverse"))
    with pytest.raises(AssertionError, match="losses"):
        assert_same(same, inverse, 5e-4)


def assert_bits(found: Path, expected: Path) -> None:
    """Weights, averages, moments and losses agree bit for bit."""
    ours, theirs = tensors(last_checkpoint(found)), tensors(last_checkpoint(expected))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    losses = [[(line["step"], line["loss"]) for line in metrics(run)] for run in (found, expected)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_stopped_at_half_equals_the_uninterrupted_one(recipe, tmp_path):
    case, constant = f"{recipe} same", ("--optimizer.decay", 0)
    train(case, tmp_path / "whole", *constant)
    train(case, tmp_path / "parts", *constant, "--steps", STEPS // 2)
    assert len(metrics(tmp_path / "parts")) == STEPS // 2
    train(case, tmp_path / "parts", *constant)
    assert_bits(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("case", [case for case in CASES if "moved" in case])
def test_a_run_that_lost_its_last_checkpoint_goes_on_from_the_one_before(case, tmp_path):
    train(case, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    shutil.rmtree(last_checkpoint(tmp_path / "run"))
    train(case, tmp_path / "run")
    assert_bits(tmp_path / "run", tmp_path / "whole")

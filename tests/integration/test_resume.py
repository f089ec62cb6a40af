import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harope.lab.recipes import get_recipe
from harope.lab.training import TrainConfig, train

SAFETENSORS = ("model", "ema", "optimizer")


def smoke(folder: Path, **changes: object) -> TrainConfig:
    return replace(get_recipe("digits-dit").smoke(folder), **changes)


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    return {
        f"{stem}/{name}": value
        for stem in SAFETENSORS
        for name, value in load_file(checkpoint / f"{stem}.safetensors").items()
    }


def losses(run: Path) -> list[tuple[int, float]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, accumulation):
    config = smoke(tmp_path, accumulation=accumulation)
    whole = train(config, tmp_path / "whole", quiet=True)
    train(replace(config, steps=2), tmp_path / "parts", quiet=True)
    parts = train(config, tmp_path / "parts", quiet=True)
    expected, found = tensors(whole), tensors(parts)
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_a_run_killed_between_checkpoints_goes_on_from_the_last(tmp_path):
    config = smoke(tmp_path)
    whole = tensors(train(config, tmp_path / "run", quiet=True))
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000004")
    again = tensors(train(config, tmp_path / "run", quiet=True))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert [step for step, _ in losses(tmp_path / "run")] == [2, 4]


def test_accumulation_changes_nothing_but_rounding(tmp_path):
    one = tensors(train(smoke(tmp_path), tmp_path / "one", quiet=True))
    two = tensors(train(smoke(tmp_path, accumulation=2), tmp_path / "two", quiet=True))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_finished_run_is_left_as_it_is(tmp_path):
    config = smoke(tmp_path)
    checkpoint = train(config, tmp_path / "run", quiet=True)
    before = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert train(config, tmp_path / "run", quiet=True) == checkpoint
    assert (checkpoint / "model.safetensors").stat().st_mtime_ns == before


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    config = smoke(tmp_path, checkpoint_every=1, keep_checkpoints=2)
    train(config, tmp_path / "run", quiet=True)
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == ["step-00000003", "step-00000004"]


def test_encodings_start_from_the_same_weights_and_see_the_same_noise(tmp_path):
    """HARoPE starts as axial RoPE, so that the first step's losses agree."""
    first = {}
    for encoding in ("axial", "harope"):
        config = smoke(tmp_path, steps=1, log_every=1)
        config = replace(config, model=replace(config.model, encoding=encoding))
        train(config, tmp_path / encoding, quiet=True)
        first[encoding] = losses(tmp_path / encoding)[0][1]
    assert first["axial"] == pytest.approx(first["harope"], rel=1e-6)


def test_a_resumed_classification_equals_the_uninterrupted_one_bit_for_bit(tmp_path):
    """With everything that draws at random: dropped paths and mixtures."""
    config = get_recipe("digits-vit").smoke(tmp_path)
    config = replace(config, mixup=0.8, cutmix=1.0, model=replace(config.model, drop_path=0.5))
    expected = tensors(train(config, tmp_path / "run", quiet=True))
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000004")
    found = tensors(train(config, tmp_path / "run", quiet=True))
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name
    assert [step for step, _ in losses(tmp_path / "run")] == [2, 4]

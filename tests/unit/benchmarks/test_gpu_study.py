"""The study on one GPU: runs that are trained as one batch of models equal runs trained alone."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.gpu.seed_training import Images, SeedTrainer
from benchmarks.gpu.study import carry_out, main, plan, store
from harope.lab.recipes import get_recipe
from harope.lab.recipes.recipe import shrink_dit
from harope.lab.training.loop import train
from harope.models.checkpoint_files import list_checkpoints

STEPS = 3

# vmap over attention runs it once per model on a CPU, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def config_of(seed: int, **model):
    config = shrink_dit(get_recipe("scenes-dit").config())
    config = replace(config, steps=STEPS, log_every=1, seed=seed)
    # With one step of warm-up, so that weights differ from their initial values.
    optimizer = replace(config.optimizer, warmup_steps=1)
    return replace(config, optimizer=optimizer, model=replace(config.model, **model))


@pytest.mark.parametrize("model", [{"encoding": "harope"}, {"encoding": "axial", "qk_norm": True}])
def test_runs_trained_together_equal_runs_trained_alone(model, tmp_path):
    configs = [config_of(seed, **model) for seed in (0, 3)]
    images = Images(tmp_path)
    for config in configs:
        images.create(config, config.seed)
        images.render(config, config.seed, range(STEPS))
    folders = [tmp_path / f"together-{config.seed}" for config in configs]
    SeedTrainer(configs, folders, images).train()
    for config, folder in zip(configs, folders, strict=True):
        alone = train(config, tmp_path / f"alone-{config.seed}", quiet=True)
        together = list_checkpoints(folder)[-1]
        for name in ("model.safetensors", "ema.safetensors"):
            expected, found = load_file(alone / name), load_file(together / name)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        losses = [
            [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
            for run in (folder, alone.parents[1])
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def options(**values) -> argparse.Namespace:
    return argparse.Namespace(**{"parts": "A", "seeds": None, "steps": 2, "tiny": True} | values)


def test_an_arm_is_planned_once_with_the_most_seeds_of_its_parts():
    arms = plan(options(parts="C,A"))
    assert [job.config.seed for job in arms["scenes-dit/axial-0"]] == [0, 1, 2, 3, 4]
    assert len({id(jobs) for jobs in arms.values()}) == len(arms)


def test_single_runs_are_planned_for_other_models_than_the_dit():
    arms = plan(options(parts="F", tiny=False))
    assert {len(jobs) for jobs in arms.values()} == {1}
    assert "scenes-mmdit/harope-2" in arms


def test_nothing_is_done_after_the_deadline(tmp_path):
    jobs = plan(options())["scenes-dit/axial-0"]
    assert carry_out(jobs, tmp_path, Images(tmp_path), deadline=0.0)["skipped"]
    assert not any(tmp_path.iterdir())


def test_an_error_is_part_of_the_report(tmp_path):
    jobs = plan(options())["scenes-dit/axial-0"]
    # No images were rendered.
    report = carry_out(jobs, tmp_path, Images(tmp_path / "missing"), deadline=float("inf"))
    assert report["error"].startswith("FileNotFoundError")
    assert report["results"] == {}


def test_missing_files_of_fashion_mnist_are_an_error_of_the_report(tmp_path):
    (job,) = plan(options(parts="D", tiny=False))["fashion-vit/axial-0"]
    data = replace(job.config.data, root=str(tmp_path / "missing"))
    job = replace(job, config=replace(job.config, data=data))
    report = carry_out([job], tmp_path, Images(tmp_path), deadline=float("inf"))
    assert report["error"].startswith("FileNotFoundError")
    assert "train-images-idx3-ubyte" in report["error"]
    assert report["results"] == {}


def test_missing_diffusers_is_an_error_of_the_report(tmp_path, monkeypatch):
    # An import of a module whose entry is None raises ModuleNotFoundError.
    monkeypatch.setitem(sys.modules, "diffusers", None)
    jobs = plan(options(parts="F", tiny=False))["scenes-mmdit/axial-0"]
    report = carry_out(jobs, tmp_path, Images(tmp_path), deadline=float("inf"))
    assert report["error"].startswith("ModuleNotFoundError")
    assert "diffusers" in report["error"]
    assert report["results"] == {}


def test_a_part_without_a_tiny_form_is_one_line(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--parts", "D", "--tiny"]) == 2
    assert "part 'D' has no tiny form" in capsys.readouterr().err


def test_an_unknown_part_is_one_line(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--parts", "Z"]) == 2
    assert "part 'Z' is unknown; available: A, B" in capsys.readouterr().err


def test_the_command_trains_measures_and_stores(tmp_path):
    arguments = ["--parts", "B", "--seeds", "1", "--steps", "2", "--tiny", "--processes", "1"]
    assert main(["--out", str(tmp_path), *arguments]) == 0
    report = json.loads((tmp_path / "study.json").read_text())
    assert len(report["results"]) == 3
    for arm in report["arms"].values():
        assert arm["device_difference"] == 0
    store(tmp_path / "study.json", tmp_path / "stored")
    path = tmp_path / "stored/scenes-dit/harope-model.qk_norm-true-0.json"
    stored = json.loads(Path(path).read_text())
    assert stored["measures"]["next_loss"] > 0
    assert stored["heads"]

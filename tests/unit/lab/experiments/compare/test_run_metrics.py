"""What is measured of a run, against the formulas."""

import json
from dataclasses import replace

import pytest
import torch

from harope.lab.experiments.compare.run_metrics import measure_run, run_metric
from harope.lab.training.loop import train
from harope.lab.training.tasks import create_task
from harope.models.dit import DiT
from support.compare import DIGITS, SIX, tiny_job


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    job = tiny_job()
    train(job.config, out / "run", quiet=True)
    return job, out


def test_the_loss_of_the_averaged_weights_is_on_the_next_draws(trained):
    job, out = trained
    found = measure_run(out / "run", job.config, SIX, out / "samples", out / "kept")["next_loss"]
    task = create_task(job.config, torch.device("cpu"))
    task.model.load_state_dict(DiT.from_checkpoint(out / "run", weights="ema").state_dict())
    task.model.eval()
    size, steps = job.config.batch_size, job.config.steps
    losses = []
    with torch.no_grad():
        for step in range(steps, steps + 32):
            batch = task.source.samples(range(step * size, (step + 1) * size))
            losses.append(task.losses(task.model, batch, step, 0)["loss"])
    assert found == pytest.approx(float(torch.cat(losses).mean()), rel=1e-6)


def test_the_training_loss_weighs_lines_by_their_steps(tmp_path):
    train(DIGITS, tmp_path, quiet=True)
    lines = [{"step": 1, "loss": 9.0}, {"step": 90, "loss": 7.0}, {"step": 94, "loss": 1.0}]
    lines.append({"step": 100, "loss": 2.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = measure_run(
        tmp_path, replace(DIGITS, steps=100), SIX, tmp_path / "samples", tmp_path / "kept"
    )
    # The last tenth: four steps at 1 and six at 2.
    assert found["training_loss"] == pytest.approx((4 * 1 + 6 * 2) / 10)


def test_a_classifier_is_measured_on_held_out_images(tmp_path):
    train(DIGITS, tmp_path / "run", quiet=True)
    found = measure_run(tmp_path / "run", DIGITS, SIX, tmp_path / "samples", tmp_path / "kept")
    assert set(found) == {"next_loss", "training_loss", "top1", "top5"}
    assert not (tmp_path / "samples").exists()


def test_a_report_that_is_missing_is_made(tmp_path):
    run = tmp_path / "run"
    train(DIGITS, run, quiet=True)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    top1 = lines[-1]["top1"]
    kept = [{k: v for k, v in line.items() if not k.startswith("top")} for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    found = measure_run(run, DIGITS, SIX, tmp_path / "samples", tmp_path / "kept")
    assert found["top1"] == top1


def test_losses_are_better_when_smaller_and_shares_when_larger():
    assert run_metric("next_loss").lower_is_better
    assert run_metric("FD-Lite0").lower_is_better
    assert run_metric("FID").to_display(3.0) == 3.0
    assert not run_metric("colors").lower_is_better
    assert run_metric("top1").to_display(0.25) == 25
    assert run_metric("training_loss").to_display(0.25) == 0.25

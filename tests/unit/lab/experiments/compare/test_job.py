"""A job: its file, its run, and when it counts as done."""

import json
import math
from dataclasses import replace

import pytest

from harope._utils.interruption import InterruptedBySignalError
from harope.lab.experiments.compare import run_metrics
from harope.lab.experiments.compare.job import MEASURES_FILE, Job, main, run_job
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.training import loop
from harope.models.checkpoint_files import list_checkpoints
from support.compare import tiny_job


def test_a_job_trains_measures_and_is_done(tmp_path):
    job = tiny_job()
    assert job.metrics(tmp_path) is None
    run_job(job, tmp_path)
    found = job.metrics(tmp_path)
    assert set(found) >= {"next_loss", "training_loss", "single_object", "exact"}
    assert len(list(job.samples_folder(tmp_path).glob("*.png"))) == 6
    # Another configuration, or another number of samples, is another job.
    assert replace(job, scoring=SampleScoreConfig(samples=7)).metrics(tmp_path) is None
    assert replace(job, config=replace(job.config, steps=3)).metrics(tmp_path) is None


def test_a_run_that_was_trained_but_not_measured_is_not_trained_again(tmp_path):
    job = tiny_job()
    run_job(job, tmp_path)
    run = job.run_folder(tmp_path)
    state, measured = list_checkpoints(run)[-1] / "state.json", json.dumps(job.metrics(tmp_path))
    written = state.stat().st_mtime_ns
    (run / MEASURES_FILE).unlink()
    run_job(job, tmp_path)
    assert state.stat().st_mtime_ns == written
    assert json.dumps(job.metrics(tmp_path)) == measured


def test_its_file_is_all_that_a_process_needs(tmp_path):
    job = tiny_job("axial", seed=1)
    assert main(job.write(tmp_path)) == 0
    assert job.metrics(tmp_path) is not None


def test_what_is_wrong_is_one_line(tmp_path, capsys):
    job = tiny_job()
    bad = Job(name="bad", config=replace(job.config, steps=2), scoring=job.scoring)
    (bad.run_folder(tmp_path)).mkdir(parents=True)
    (bad.run_folder(tmp_path) / "notes.txt").write_text("mine")
    assert main(bad.write(tmp_path)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "is not empty and holds no run" in lines[0]


def test_measures_of_another_folder_are_not_taken(tmp_path):
    job = tiny_job()
    run = job.run_folder(tmp_path)
    run.mkdir(parents=True)
    other = {"job": tiny_job(seed=5).to_dict(), "measures": {"next_loss": 0.0}}
    (run / MEASURES_FILE).write_text(json.dumps(other))
    assert job.metrics(tmp_path) is None


@pytest.mark.parametrize("samples", [6, 300])
def test_folders_are_told_apart_by_the_number_of_samples(samples, tmp_path):
    assert tiny_job(samples=samples).samples_folder(tmp_path).name == f"harope-0-{samples}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "valid dictionary"),
        ("null", "valid dictionary"),
        ("[" * 100_000, "nested too deeply"),
        ('{"name": "job"}', "config is missing"),
        ('{"name": 3, "config": {}, "drawn": {}}', "name: Input should be a valid string"),
        ('{"name": "job", "config": [], "drawn": {}}', "config: Input should be a valid dict"),
        ('{"name": "job", "config": {}, "drawn": {"samples": 0}}', "samples 0 must be at least 1"),
    ],
)
def test_a_damaged_job_file_is_one_line(text, words, tmp_path, capsys):
    path = tmp_path / "jobs" / "job.json"
    path.parent.mkdir()
    path.write_text(text)
    assert main(path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(str(path))
    assert words in lines[0]


def test_a_job_writes_to_the_folder_of_its_own_name_alone(tmp_path, capsys):
    path = replace(tiny_job(), name="../elsewhere").write(tmp_path / "out")
    renamed = path.replace(tmp_path / "out" / "jobs" / "job.json")
    assert main(renamed) == 2
    assert "describes the job '../elsewhere'; its name must be job" in capsys.readouterr().err
    assert list(tmp_path.rglob("config.json")) == []


def test_a_metric_that_is_not_finite_is_not_stored(tmp_path, monkeypatch):
    job = tiny_job()
    monkeypatch.setattr(run_metrics, "measure_run", lambda *_, **__: {"FID": math.nan})
    with pytest.raises(ValueError, match=r"the metric FID of .* is nan"):
        run_job(job, tmp_path)
    assert not job.result_file(tmp_path).exists()


def test_an_interrupted_job_ends_with_the_exit_code_of_its_signal(tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise InterruptedBySignalError(15, "stopped by SIGTERM after step 1")

    monkeypatch.setattr(loop, "train", stop)
    assert main(tiny_job().write(tmp_path)) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM after step 1\n"

"""Trackers: what they receive, what resuming does, and what happens when one fails."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import accelerate.tracking
import numpy as np
import pytest
from accelerate import PartialState
from accelerate.tracking import GeneralTracker
from PIL import Image

from harope.lab.recipes import get_recipe
from harope.lab.training import trackers as module
from harope.lab.training import train
from harope.lab.training.logging import read_metrics
from harope.lab.training.trackers import (
    Report,
    Trackers,
    check_trackers,
    read_states,
)

CONFIG = replace(get_recipe("scenes-dit").smoke_config(Path()), sample_every=2, log_every=1)
SETTINGS = {"steps": 4, "optimizer.betas": [0.9, 0.99], "optimizer.lr": 1e-3}


class StandIn(GeneralTracker):
    """Records what accelerate's tracker of the same place would be given."""

    name = "stand-in"
    requires_logging_directory = False
    opened: list["StandIn"]

    def __init__(self, project, **options):
        super().__init__()
        self.project, self.options = project, options
        self.config, self.logged, self.images, self.finished = None, [], [], False
        self.opened.append(self)

    def start(self):
        self.run = SimpleNamespace(
            id=self.options.get("id") or "new-id",
            name=self.options.get("name"),
            info=SimpleNamespace(run_id=self.options.get("run_id") or "new-run-id"),
        )

    @property
    def tracker(self):
        return self.run

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **options):
        self.logged.append((step, values))

    def log_images(self, values, step=None, **options):
        self.images.append((step, {name: len(images) for name, images in values.items()}))

    def log_artifact(self, local_path, artifact_path=None):
        self.images.append((Path(local_path).name, artifact_path))

    def finish(self):
        self.finished = True


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    """Replace the trackers of services; the fixture is the list of those that were opened."""
    StandIn.opened = []
    for name in ("WandBTracker", "TrackioTracker", "MLflowTracker"):
        monkeypatch.setattr(accelerate.tracking, name, StandIn)
    monkeypatch.setattr(module, "find_spec", lambda name: SimpleNamespace())
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    PartialState(cpu=True)
    return StandIn.opened


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "samples.png"
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(path)
    return path


def open_trackers(run, *names, step=0, warn=pytest.fail):
    trackers = Trackers(names, run, step, SETTINGS, warn)
    trackers.start()
    return trackers


def events(run):
    """What TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    return accumulator.Reload()


def test_tensorboard_shows_numbers_images_texts_and_the_configuration(tmp_path, grid):
    trackers = open_trackers(tmp_path, "tensorboard")
    trackers.log({"loss": 2.0, "lr": 0.1}, 1)
    report = Report(scalars={"top1": 0.5}, images={"samples": grid}, texts={"captions": "a dog"})
    trackers.log_report(report, 1)
    trackers.close()
    shown = events(tmp_path)
    assert {name: shown.Scalars(name)[0].value for name in ("loss", "top1")} == {
        "loss": 2.0,
        "top1": 0.5,
    }
    (image,) = shown.Images("samples")
    assert (image.step, image.width, image.height) == (1, 6, 4)
    assert b"a dog" in shown.Tensors("captions/text_summary")[0].tensor_proto.string_val[0]
    metadata = shown.summary_metadata["_hparams_/session_start_info"]
    assert b"optimizer.betas" in metadata.plugin_data.content


def test_tensorboard_drops_the_steps_that_a_resumed_run_repeats(tmp_path):
    trackers = open_trackers(tmp_path, "tensorboard")
    for step in (1, 2, 3):
        trackers.log({"loss": float(step)}, step)
    trackers.close()
    trackers = open_trackers(tmp_path, "tensorboard", step=1)
    trackers.log({"loss": 20.0}, 2)
    trackers.close()
    assert [(event.step, event.value) for event in events(tmp_path).Scalars("loss")] == [
        (1, 1.0),
        (2, 20.0),
    ]


@pytest.mark.parametrize(
    ("name", "first", "resumed"),
    [
        ("wandb", {"id": None, "resume": "allow"}, {"id": "new-id", "resume": "allow"}),
        ("mlflow", {"run_id": None}, {"run_id": "new-run-id"}),
    ],
)
def test_a_service_goes_on_with_the_run_and_gets_nothing_twice(
    tmp_path, grid, stand_ins, name, first, resumed
):
    report = Report(scalars={"top1": 0.5}, images={"samples": grid})
    trackers = open_trackers(tmp_path, name)
    trackers.log({"loss": 1.0}, 1)
    trackers.log({"loss": 2.0}, 2)
    trackers.log_report(report, 1)
    trackers.close()
    trackers = open_trackers(tmp_path, name, step=1)
    for step in (2, 3):
        trackers.log({"loss": float(step)}, step)
        trackers.log_report(report, step)
    trackers.close()
    old, new = stand_ins
    assert first.items() <= old.options.items()
    assert resumed.items() <= new.options.items()
    assert old.project == "harope"
    assert old.config == {
        "steps": 4,
        "optimizer.betas": "[0.9, 0.99]",
        "optimizer.lr": 1e-3,
    }
    assert new.config is None
    assert old.logged == [(1, {"loss": 1.0}), (2, {"loss": 2.0}), (1, {"top1": 0.5})]
    assert new.logged == [(2, {"top1": 0.5}), (3, {"loss": 3.0}), (3, {"top1": 0.5})]
    shown = [(2, {"samples": 1}), (3, {"samples": 1})]
    assert new.images == ([("samples.png", "samples")] * 2 if name == "mlflow" else shown)
    assert old.finished
    assert new.finished
    state = read_states(tmp_path)[name]
    assert (state.scalars, state.report) == (3, 3)


def test_trackio_knows_folders_of_one_name_apart(tmp_path, grid, stand_ins, monkeypatch):
    stand_in = SimpleNamespace(Image=lambda path: Path(path).name)
    monkeypatch.setitem(sys.modules, "trackio", stand_in)
    for folder in ("a", "b"):
        run = tmp_path / folder / "run"
        run.mkdir(parents=True)
        trackers = open_trackers(run, "trackio")
        trackers.log_report(Report(scalars={}, images={"samples": grid}), 1)
        trackers.close()
    names = {tracker.options["name"] for tracker in stand_ins}
    assert len(names) == 2
    assert all(name.startswith("run-") for name in names)
    assert stand_ins[0].logged[-1] == (1, {"samples": "samples.png"})
    assert stand_ins[0].options["config"]["steps"] == 4


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(tmp_path, stand_ins):
    warnings = []
    trackers = open_trackers(tmp_path, "wandb", "mlflow", warn=warnings.append)
    stand_ins[0].log = lambda *args, **options: 1 / 0
    for step in (1, 2):
        trackers.log({"loss": 1.0}, step)
    trackers.close()
    (warning,) = warnings
    assert warning.endswith("wandb is no longer logged to, because of an error: division by zero")
    assert [step for step, _ in stand_ins[1].logged] == [1, 2]


def test_a_tracker_that_does_not_start_is_an_error(tmp_path, monkeypatch):
    def fail(self):
        raise RuntimeError("no API key")

    monkeypatch.setattr(StandIn, "start", fail)
    with pytest.raises(ValueError, match=r"wandb, which report_to names, does not start \(no API"):
        open_trackers(tmp_path, "wandb")


def test_trackers_that_have_begun_are_closed_when_another_does_not_start(
    tmp_path, stand_ins, monkeypatch
):
    def fail(self, config):
        raise RuntimeError("no server")

    monkeypatch.setattr(module.MLflow, "start", fail)
    with pytest.raises(ValueError, match="mlflow, which report_to names, does not start"):
        open_trackers(tmp_path, "wandb", "mlflow")
    (wandb,) = stand_ins
    assert wandb.finished


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="'trackio', which is not installed: run `pip install tra"):
        check_trackers(["trackio"])


def test_a_refused_tracker_leaves_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="is not installed"):
        train(replace(CONFIG, report_to=("mlflow",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="names a tracker twice"):
        replace(CONFIG, report_to=("wandb", "wandb"))


def test_a_training_logs_what_its_metrics_file_has(tmp_path, stand_ins):
    run = tmp_path / "run"
    config = replace(CONFIG, report_to=("tensorboard", "wandb"))
    train(config, run, quiet=True)
    (tracker,) = stand_ins
    assert tracker.config["optimizer.lr"] == CONFIG.optimizer.lr
    by_step: dict[int, dict] = {}
    for step, values in tracker.logged:
        by_step.setdefault(step, {}).update(values)
    lines = read_metrics(run)
    assert [{"step": step} | values for step, values in by_step.items()] == lines
    assert {"grad_norm", "data_wait", "memory_gib", "singular_values_max", "lr"} <= lines[0].keys()
    assert tracker.images == [(2, {"samples": 1}), (4, {"samples": 1})]
    shown = events(run)
    for line in lines:
        for name in line.keys() - {"step"}:
            (value,) = (e.value for e in shown.Scalars(name) if e.step == line["step"])
            assert value == pytest.approx(line[name])
    assert [image.step for image in shown.Images("samples")] == [2, 4]


def test_a_training_without_trackers_writes_metrics_alone(tmp_path, stand_ins):
    train(replace(CONFIG, report_to=()), tmp_path / "run", quiet=True)
    assert not stand_ins
    assert not (tmp_path / "run/tensorboard").exists()
    assert not (tmp_path / "run/trackers.json").exists()
    assert json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["step"] == 4

"""The loop and a task of its own kind: it knows nothing of what is trained."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from harope._utils.interruption import InterruptedBySignalError
from harope.lab.data.labelled.digits import DigitsDataset
from harope.lab.recipes import get_recipe
from harope.lab.training import OptimizerConfig, train
from harope.lab.training.checkpoint import load_checkpoint
from harope.lab.training.logging import read_metrics
from harope.lab.training.loop import Trainer
from harope.lab.training.task import Task
from harope.models.checkpoint_files import list_checkpoints

CONFIG = replace(
    get_recipe("digits-dit").smoke_config(Path()),
    optimizer=OptimizerConfig(),
    steps=4,
    batch_size=8,
    log_every=4,
    checkpoint_every=2,
    sample_every=2,
)


class AdapterTask(Task):
    """A frozen layer and a trained one behind it; checkpoints keep the trained one alone."""

    def __init__(self):
        torch.manual_seed(0)
        model = nn.ModuleDict({"frozen": nn.Linear(64, 16), "adapter": nn.Linear(16, 10)})
        model["frozen"].requires_grad_(False)
        super().__init__(CONFIG, DigitsDataset(), Classifier(model), title="adapter")

    def losses(self, network, batch, step, batch_offset):
        images, labels = batch
        return {"loss": F.cross_entropy(network(images), labels, reduction="none")}

    def model_config(self):
        return {"rank": 16}

    def report(self, run, step):
        assert not self.model.training
        return {"reported": step}

    def has_report(self, run, step):
        return any("reported" in line for line in read_metrics(run) if line["step"] == step)

    def state_dict(self):
        return {name: value for name, value in self.model.state_dict().items() if "adapter" in name}

    def load_state_dict(self, state):
        self.model.load_state_dict(state, strict=False)


class Classifier(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        return self.layers["adapter"](self.layers["frozen"](x.flatten(1)))


@pytest.fixture
def trainer(tmp_path):
    return Trainer(AdapterTask(), tmp_path, Accelerator(cpu=True))


def test_a_task_that_trains_some_parameters_saves_and_averages_those_alone(trainer):
    frozen = trainer.model.layers["frozen"].weight.clone()
    checkpoint = trainer.run_steps(quiet=True)
    names = {"layers.adapter.weight", "layers.adapter.bias"}
    for stem in ("model", "ema"):
        assert load_file(checkpoint / f"{stem}.safetensors").keys() == names
    moments = load_file(checkpoint / "optimizer.safetensors")
    assert {name.partition(".")[2] for name in moments} == names
    assert json.loads((checkpoint / "config.json").read_text()) == {"rank": 16}
    assert torch.equal(trainer.model.layers["frozen"].weight, frozen)


def test_it_goes_on_from_what_it_saved(trainer, tmp_path):
    trainer.run_steps(quiet=True)
    other = Trainer(AdapterTask(), tmp_path, Accelerator(cpu=True))
    other.restore()
    assert other.step == 4
    for ours, saved in zip(other.model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(ours, saved)


def test_what_a_report_returns_joins_the_line_of_its_step(trainer, tmp_path):
    trainer.run_steps(quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["reported"]) for line in lines] == [(2, 2), (4, 4)]
    assert all({"loss", "lr", "images_per_second"} <= line.keys() for line in lines)


def test_update_applies_the_gradients_of_a_step(trainer):
    adapter = trainer.model.layers["adapter"]
    before, averages = adapter.bias.detach().clone(), trainer.ema.updates
    adapter.bias.grad = torch.ones_like(adapter.bias)
    assert trainer.update(0) is None  # The configuration does not clip.
    assert trainer.optimizer.param_groups[0]["lr"] == CONFIG.optimizer.rate(0, CONFIG.steps)
    assert not torch.equal(adapter.bias, before)
    assert adapter.bias.grad is None
    assert trainer.ema.updates == averages + 1


def test_save_writes_a_checkpoint_of_the_current_step(trainer, tmp_path):
    trainer.step = 3
    trainer.save()
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["step-00000003"]


def test_a_finished_run_removes_the_checkpoints_that_a_killed_process_left(tmp_path):
    task = AdapterTask()
    task.config = replace(CONFIG, keep_checkpoints=1)
    Trainer(task, tmp_path, Accelerator(cpu=True)).run_steps(quiet=True)
    (newest,) = list_checkpoints(tmp_path)
    (newest.parent / "step-00000002").mkdir()
    other = Trainer(task, tmp_path, Accelerator(cpu=True))
    other.restore()
    other.run_steps(quiet=True)
    assert list_checkpoints(tmp_path) == [newest]


class InterruptedReport(AdapterTask):
    """Receives a signal during its last step or the report after it."""

    def __init__(self, during):
        super().__init__()
        self.during = during

    def losses(self, network, batch, step, batch_offset):
        if self.during == "step" and step + 1 == self.config.steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().losses(network, batch, step, batch_offset)

    def report(self, run, step):
        if self.during == "report" and step == self.config.steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().report(run, step)


@pytest.mark.parametrize("during", ["step", "report"])
def test_a_signal_at_the_end_leaves_out_the_last_report_until_the_next_start(
    tmp_path, during, capfd
):
    with pytest.raises(InterruptedBySignalError, match="all 4 steps are taken") as caught:
        Trainer(InterruptedReport(during), tmp_path, Accelerator(cpu=True)).run_steps(quiet=True)
    assert caught.value.exit_code == 143
    assert list_checkpoints(tmp_path)[-1].name == "step-00000004"
    other = Trainer(AdapterTask(), tmp_path, Accelerator(cpu=True))
    other.restore()
    assert not other.task.has_report(tmp_path, 4)
    other.run_steps(quiet=True)
    assert other.task.has_report(tmp_path, 4)


class InterruptedTask(AdapterTask):
    """Receives a signal in the middle of its third step, after it has been asked for the loss."""

    def losses(self, network, batch, step, batch_offset):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().losses(network, batch, step, batch_offset)


def test_a_signal_ends_the_training_after_its_step_and_it_goes_on(trainer, tmp_path, capfd):
    """Also with the step's report left out, which the next start makes."""
    task = InterruptedTask()
    task.config = replace(CONFIG, checkpoint_every=4, sample_every=3)
    (tmp_path / "run").mkdir()
    interrupted = Trainer(task, tmp_path / "run", Accelerator(cpu=True))
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedBySignalError, match="by SIGTERM after step 3 of 4") as caught:
        interrupted.run_steps(quiet=True)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == former
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["step-00000003"]
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [3]

    other = Trainer(AdapterTask(), tmp_path / "run", Accelerator(cpu=True))
    other.config = task.config
    other.restore()
    other.run_steps(quiet=False)
    assert "going on from step 3 of 4" in capfd.readouterr().err
    reported = [(line["step"], line["reported"]) for line in read_metrics(tmp_path / "run")]
    assert reported == [(3, 3), (4, 4)]
    trainer.run_steps(quiet=True)
    assert_same_state(other, trainer)


def assert_same_state(trainer, other):
    for ours, theirs in zip(trainer.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert all(map(torch.equal, trainer.ema.average, other.ema.average))


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(trainer, tmp_path, capfd):
    trainer.run_steps(quiet=True)
    damaged = tmp_path / "checkpoints/step-00000004"
    content = bytearray((damaged / "optimizer.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "optimizer.safetensors").write_bytes(content)
    other = Trainer(AdapterTask(), tmp_path, Accelerator(cpu=True))
    other.restore()
    assert other.step == 2
    warning = capfd.readouterr().err
    assert "step-00000004 is damaged" in warning
    assert "optimizer.safetensors" in warning
    assert damaged.with_name("step-00000004.damaged").is_dir()
    other.run_steps(quiet=True)
    assert_same_state(other, trainer)
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4]


def test_a_finished_run_says_so_and_stays_as_it_is(trainer, tmp_path, capfd):
    trainer.run_steps(quiet=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    other = Trainer(AdapterTask(), tmp_path, Accelerator(cpu=True))
    other.restore()
    other.run_steps(quiet=True)
    assert "has taken 4 of 4 steps: nothing to do" in capfd.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_a_torn_last_line_of_metrics_is_left_out(trainer, tmp_path):
    trainer.run_steps(quiet=True)
    metrics = tmp_path / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole + '{"step": 6, "los')
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4]
    other = Trainer(AdapterTask(), tmp_path, Accelerator(cpu=True))
    other.restore()
    other.run_steps(quiet=True)
    assert metrics.read_text() == whole


@pytest.mark.parametrize("line", ["[]", "null", "{}", '{"step": "4"}', "[" * 100_000, '{"ste'])
def test_another_damaged_line_of_metrics_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl line 2 is not"):
        read_metrics(tmp_path)


def test_metrics_that_were_removed_do_not_stop_a_run(trainer, tmp_path):
    trainer.run_steps(quiet=True)
    (tmp_path / "metrics.jsonl").unlink()
    other = Trainer(AdapterTask(), tmp_path, Accelerator(cpu=True))
    other.restore()
    other.run_steps(quiet=True)
    assert read_metrics(tmp_path) == [{"step": 4, "reported": 4}]


def test_a_checkpoint_with_values_that_are_not_finite_is_refused(trainer, tmp_path):
    trainer.step = 2
    trainer.save()
    trainer.step = 3
    trainer.ema.average[0][0, 0] = torch.inf
    with pytest.raises(
        ValueError, match=r"no checkpoint of step 3 .*1 of \d+ values of ema .*--from"
    ):
        trainer.save()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002"]


class GrowingTask(AdapterTask):
    """Data of which there is more than when the training began."""

    def data_identity(self):
        return {"items": 1800, "classes": ["zero", "one"]}


def test_changed_data_is_refused_naming_the_difference(trainer, tmp_path):
    trainer.run_steps(quiet=True)
    other = Trainer(GrowingTask(), tmp_path, Accelerator(cpu=True))
    with pytest.raises(ValueError, match=r"data with items 1797, not 1800: restore the data"):
        other.restore()


def test_a_run_starts_from_a_checkpoint_of_another(trainer, tmp_path):
    trainer.run_steps(quiet=True)
    start = tmp_path / "checkpoints/step-00000002"

    def begin(run, start=start, task=AdapterTask, steps=4):
        other = Trainer(task(), tmp_path / run, Accelerator(cpu=True))
        other.config = replace(CONFIG, steps=steps)
        other.restore(start)
        return other

    other = begin("new")
    assert other.step == 2
    assert [path.name for path in list_checkpoints(tmp_path / "new")] == [start.name]
    other.run_steps(quiet=True)
    assert_same_state(other, trainer)
    state = load_checkpoint(tmp_path / "new/checkpoints/step-00000004")[1]
    assert state.origin.startswith("step-00000002, weights ")
    # The same command again, and again when the first run is gone.
    assert begin("new").step == 4
    assert begin("new", tmp_path / "gone/checkpoints/step-00000002").step == 4
    # Other data is no obstacle to a new run.
    assert begin("grown", task=GrowingTask).step == 2
    for run, start, words in (
        ("new", tmp_path / "checkpoints/step-00000004", "started from step-00000002"),
        ("more", tmp_path, "is not a checkpoint"),
        ("more", tmp_path / "checkpoints/step-00000003", "is not a checkpoint"),
    ):
        with pytest.raises(ValueError, match=words):
            begin(run, start)
    with pytest.raises(ValueError, match="has taken 2 steps: set steps to more"):
        begin("more", steps=2)
    assert not (tmp_path / "more").exists()


def test_muon_is_refused_where_torch_has_none_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    config = replace(
        get_recipe("digits-dit").smoke(tmp_path), optimizer=OptimizerConfig(name="muon")
    )
    with pytest.raises(ValueError, match=r"torch 2.6.0 has no torch.optim.Muon: install torch 2.9"):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()

"""The loop and a task of its own kind: it knows nothing of what is trained."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from harope.lab.data.labelled.digits import DigitsDataset
from harope.lab.recipes import get_recipe
from harope.lab.training import OptimizerConfig, train
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


def test_muon_is_refused_where_torch_has_none_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    config = replace(
        get_recipe("digits-dit").smoke(tmp_path), optimizer=OptimizerConfig(name="muon")
    )
    with pytest.raises(ValueError, match=r"torch 2.6.0 has no torch.optim.Muon: install torch 2.9"):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()

"""Weights of one model in another: what is taken over, what starts anew, what is refused."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from harope.lab.data.labelled.digits import DigitsDataConfig
from harope.lab.recipes import get_recipe
from harope.lab.training import ClassifyConfig, initial_weights, train
from harope.lab.training.initial_weights import (
    load_initial_weights,
    read_initial_model,
    released_models,
    with_initial_sizes,
)
from harope.lab.training.tasks import create_task
from harope.models.dit import DiT
from harope.models.mmdit import run_mmdit
from harope.models.vit import ViTConfig
from harope.rope import grid_positions
from support.mmdit import scenes_config

CPU = torch.device("cpu")
SMOKE = get_recipe("digits-dit").smoke_config(Path())
DIT = replace(
    SMOKE,
    model=replace(SMOKE.model, encoding="axial", num_classes=None),
    steps=2,
    checkpoint_every=1,
    sample_every=2,
    num_samples=1,
)
VIT = ClassifyConfig(
    recipe="test",
    model=ViTConfig(depth=1, width=16, num_heads=2, patch_size=2, in_channels=1, encoding="axial"),
    data=DigitsDataConfig(split="train"),
    steps=2,
    batch_size=4,
)
VIT = replace(VIT, model=replace(VIT.model, num_classes=None))
MMDIT = scenes_config()
MMDIT = replace(MMDIT, model=replace(MMDIT.model, encoding="axial"))


def new_task(config):
    torch.manual_seed(0)
    return create_task(config, CPU)


def save_task(config, folder):
    """Write a model folder with random weights in all layers; return the task."""
    task = new_task(config)
    for parameter in task.model.parameters():
        nn.init.normal_(parameter, std=0.1)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(task.model_config()))
    save_file(task.state_dict(), folder / "model.safetensors")
    return task


def start(config, folder, **model):
    """Create a task with the weights of a folder; return it and what was not taken over."""
    config = replace(config, init=str(folder), model=replace(config.model, **model))
    initial = read_initial_model(config)
    task = new_task(config)
    return task, load_initial_weights(task.model, config, initial)


def outputs(task):
    x, *condition = task.source.samples(range(3))
    times = torch.tensor([10.0, 500.0, 900.0])
    task.model.eval()
    with torch.no_grad():
        if isinstance(task.config, ClassifyConfig):
            return task.model(x)
        if isinstance(task.model, DiT):
            return task.model(x, times, *condition)
        return run_mmdit(task.model, x, times, *condition[:2])


@pytest.mark.parametrize("config", [DIT, VIT, MMDIT], ids=["dit", "vit", "mmdit"])
def test_harope_starts_with_the_outputs_of_its_axial_source(config, tmp_path):
    source = save_task(config, tmp_path / "source")
    task, notices = start(config, tmp_path / "source", encoding="harope")
    assert torch.equal(outputs(task), outputs(source))
    assert notices == ["the encoding is harope instead of axial and starts with its initial values"]


@pytest.mark.parametrize("config", [DIT, VIT, MMDIT], ids=["dit", "vit", "mmdit"])
def test_trained_parameters_of_the_same_encoding_are_taken_over(config, tmp_path):
    config = replace(config, model=replace(config.model, encoding="harope"))
    source = save_task(config, tmp_path / "source")
    task, notices = start(config, tmp_path / "source")
    assert notices == []
    assert torch.equal(outputs(task), outputs(source))
    other, notices = start(config, tmp_path / "source", encoding="harope-v1")
    assert notices == [
        "the encoding is harope-v1 instead of harope and starts with its initial values"
    ]
    scales = [value for name, value in other.state_dict().items() if name.endswith("raw_scale")]
    assert scales
    assert all(len(values.unique()) == 1 for values in scales)


def test_layers_of_another_number_of_channels_and_classes_start_anew(tmp_path):
    source = save_task(DIT, tmp_path / "source").state_dict()
    scenes = get_recipe("scenes-dit").smoke_config(Path())
    model = replace(DIT.model, in_channels=3, num_classes=180, learned_variance=False)
    task, notices = start(replace(scenes, model=model), tmp_path / "source")
    assert notices == [
        "x_embedder is not taken over, because model.in_channels differs",
        "y_embedder is not taken over, because model.num_classes or model.label_dropout differs",
        "final_layer.linear is not taken over, because model.in_channels or "
        "model.learned_variance differs",
    ]
    for name, value in task.state_dict().items():
        new = name.startswith(("x_embedder", "y_embedder", "final_layer.linear"))
        assert new or torch.equal(value, source[name])
    assert not task.state_dict()["final_layer.linear.weight"].any()


def test_the_head_of_another_number_of_classes_starts_anew(tmp_path):
    save_task(VIT, tmp_path / "source")
    config = replace(VIT, init=str(tmp_path / "source"))
    initial = read_initial_model(config)
    model = new_task(config).model
    model.reset_classifier(3)
    assert load_initial_weights(model, config, initial) == [
        "head is not taken over, because model.num_classes differs"
    ]


def test_another_text_encoder_starts_its_projections_anew(tmp_path):
    save_task(MMDIT, tmp_path / "source")
    config = replace(MMDIT, text=replace(MMDIT.text, channels=16))
    sizes = {"text_channels": 16, "pooled_channels": 16}
    assert start(config, tmp_path / "source", **sizes)[1] == [
        "context_embedder is not taken over, because model.text_channels differs",
        "time_text_embed.text_embedder is not taken over, because model.pooled_channels differs",
    ]


def test_other_sizes_are_refused_by_the_field_and_taken_from_the_source_on_request(tmp_path):
    save_task(DIT, tmp_path / "source")
    other = replace(DIT, model=replace(DIT.model, depth=3, mlp_ratio=2.0, encoding="string"))
    other = replace(other, init=str(tmp_path / "source"))
    with pytest.raises(ValueError, match=r"model\.depth is 3, but that of init .*source is 2: lea"):
        read_initial_model(other)
    assert with_initial_sizes(other).model == replace(DIT.model, encoding="string")
    assert with_initial_sizes(DIT) is DIT


def test_missing_and_unknown_weights_are_refused_by_their_names(tmp_path):
    save_task(DIT, tmp_path / "source")
    config = replace(DIT, init=str(tmp_path / "source"))
    initial = read_initial_model(config)
    initial.model.blocks[1].attn.proj = nn.Sequential(nn.Linear(32, 32))
    expected = (
        r"has no blocks\.1\.attn\.proj\.bias, blocks\.1\.attn\.proj\.weight and has the unknown "
        r"blocks\.1\.attn\.proj\.0\.bias, blocks\.1\.attn\.proj\.0\.weight: choose a model"
    )
    with pytest.raises(ValueError, match=expected):
        load_initial_weights(new_task(config).model, config, initial)


def test_a_model_of_another_family_is_refused(tmp_path):
    save_task(VIT, tmp_path / "vit")
    with pytest.raises(ValueError, match=r"init: not the configuration of a DiT: unknown fields"):
        start(DIT, tmp_path / "vit")
    with pytest.raises(ValueError, match=r"init: checkpoint \S+ is damaged or is not .* of a ViT"):
        start(VIT, "scenes-dit-axial")


@pytest.mark.parametrize("name", ["scenes-dit-axal", "runs/nothing/here", "/nowhere/x", "gone.pt"])
def test_a_missing_source_is_refused_without_a_download(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"init '{re.escape(name)}' does not exist: give a run"):
        start(DIT, name)


def test_trainings_that_start_from_a_pretrained_model_take_no_init():
    config = replace(get_recipe("flux-lora").config(), init="scenes-dit-axial")
    with pytest.raises(ValueError, match=r"but flux-lora starts from model\.pretrained: leave"):
        read_initial_model(config)


def test_released_models_are_found_by_name():
    assert released_models() == ["scenes-dit-axial", "scenes-dit-harope"]
    config = with_initial_sizes(replace(get_recipe("scenes-dit").config(), init="scenes-dit-axial"))
    assert read_initial_model(config).origin.startswith("scenes-dit-axial, weights ")


def test_a_pt_file_is_read_as_the_run_that_it_was_made_from(tmp_path):
    # The sizes of DiT-S, whose number of heads is known.
    sizes = {"depth": 12, "width": 384, "num_heads": 6}
    config = replace(DIT, model=replace(DIT.model, encoding="ape", **sizes))
    source = save_task(config, tmp_path / "source")
    ape = source.model.pos_embed.embed(grid_positions(4, 4))[None]
    torch.save({"ema": source.state_dict() | {"pos_embed": ape}}, tmp_path / "dit.pt")
    task, notices = start(config, tmp_path / "dit.pt")
    assert notices == []
    assert torch.equal(outputs(task), outputs(source))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps whose EMA differs from its weights."""
    folder = tmp_path_factory.mktemp("runs") / "source"
    train(replace(DIT, ema_decay=0.9), folder, quiet=True)
    return folder


def test_a_run_starts_at_step_0_from_the_ema_weights_and_resumes(run, tmp_path, capsys):
    config = replace(DIT, init=str(run), optimizer=replace(DIT.optimizer, lr=1e-12))
    end = train(replace(config, steps=1), tmp_path / "new", quiet=True)
    ema, model = (
        load_file(run / f"checkpoints/step-00000002/{n}.safetensors") for n in ("ema", "model")
    )
    started = load_file(end / "model.safetensors")
    assert all(torch.allclose(value, ema[name], atol=1e-9) for name, value in started.items())
    assert not all(torch.allclose(v, model[name], atol=1e-9) for name, v in started.items())
    assert json.loads((end / "state.json").read_text())["step"] == 1
    train(config, tmp_path / "new", quiet=True)
    whole = train(config, tmp_path / "whole", quiet=True)
    for stem in ("model", "ema", "optimizer"):
        file = f"checkpoints/{whole.name}/{stem}.safetensors"
        first, second = (load_file(tmp_path / name / file) for name in ("new", "whole"))
        assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_resumed_run_with_another_source_is_refused_but_one_without_it_goes_on(run, tmp_path):
    source, out = tmp_path / "source", tmp_path / "new"
    shutil.copytree(run / "checkpoints/step-00000001", source)
    config = replace(DIT, init=str(source))
    train(replace(config, steps=1), out, quiet=True)
    shutil.rmtree(source)
    shutil.copytree(run / "checkpoints/step-00000002", source)
    with pytest.raises(ValueError, match=r"started from \S+, weights \w+, not from \S+, weights "):
        train(config, out, quiet=True)
    shutil.rmtree(source)
    assert train(config, out, quiet=True).name == "step-00000002"


def test_a_run_resumes_although_its_source_was_trained_further(tmp_path):
    source, out = tmp_path / "source", tmp_path / "new"
    short = replace(DIT, steps=1, optimizer=replace(DIT.optimizer, decay=0.0))
    train(short, source, quiet=True)
    config = replace(DIT, init=str(source))
    end = train(replace(config, steps=1), out, quiet=True)
    origin = json.loads((end / "state.json").read_text())["origin"]
    assert origin.startswith(f"{source} step-00000001, weights ")
    train(replace(short, steps=2), source, quiet=True)
    assert train(config, out, quiet=True).name == "step-00000002"


def test_weights_and_a_checkpoint_are_not_both_a_start(run, tmp_path):
    config = replace(DIT, init=str(run))
    with pytest.raises(ValueError, match=r"or from a checkpoint, but init is .* leave one of them"):
        train(config, tmp_path / "new", start=run / "checkpoints/step-00000001", quiet=True)
    assert not (tmp_path / "new").exists()


def test_a_source_that_does_not_fit_leaves_no_folder(run, tmp_path):
    config = replace(DIT, init=str(run), model=replace(DIT.model, width=64))
    with pytest.raises(ValueError, match=r"model\.width is 64, but"):
        train(config, tmp_path / "new", quiet=True)
    assert not (tmp_path / "new").exists()


def test_a_hub_id_is_downloaded_once_and_found_again_in_the_cache(tmp_path, monkeypatch):
    source = save_task(DIT, tmp_path / "snapshots/0123abcd")
    downloads = []

    def download(hub_id, names):
        downloads.append((hub_id, names))
        return tmp_path / "snapshots/0123abcd"

    monkeypatch.setattr(initial_weights, "download_files", download)
    task, notices = start(DIT, "user/model")
    assert notices == []
    assert torch.equal(outputs(task), outputs(source))
    assert downloads == [("user/model", ["config.json", "model.safetensors"])]
    origin = read_initial_model(replace(DIT, init="user/model")).origin
    monkeypatch.setattr(initial_weights, "find_files", lambda _: tmp_path / "snapshots/0123abcd")
    assert initial_weights.find_origin("user/model", origin) == origin
    monkeypatch.setattr(initial_weights, "find_files", lambda _: None)
    assert initial_weights.find_origin("user/model", origin) is None

"""Runs on the Hub: the folder that is uploaded, its model card, and uploads that cannot be."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import harope
from harope.lab.data.captioned.coco import CocoDataConfig
from harope.lab.data.captioned.hub import HubDataConfig
from harope.lab.metrics.intervals import Proportion
from harope.lab.recipes import get_recipe
from harope.lab.reporting.tables import format_proportion
from harope.lab.training import train
from harope.lab.training.logging import read_metrics
from harope.lab.training.model_card import model_card
from harope.lab.training.publish import push_run, write_hub_folder
from harope.lab.training.run_dir import read_config
from harope.models.checkpoint_files import list_checkpoints
from harope.models.dit import DiT
from harope.models.mmdit import read_mmdit
from harope.models.vit import read_vit

RECIPES = ("scenes-dit", "digits-vit", "scenes-mmdit", "flux-lora")
HUB_ID = "somebody/a-model"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each task, by recipe."""
    root, found = tmp_path_factory.mktemp("runs"), {}
    for recipe in RECIPES:
        config = get_recipe(recipe).smoke(root / f"{recipe}-data")
        train(replace(config, report_to=()), root / recipe, quiet=True)
        found[recipe] = root / recipe
    return found


@pytest.fixture(scope="module")
def folders(runs):
    """What would be uploaded, by recipe."""
    return {
        recipe: write_hub_folder(run, run.with_name(f"{recipe}-hub"), HUB_ID)
        for recipe, run in runs.items()
    }


def card_of(folder):
    return ModelCard.load(folder / "README.md")


def ema_of(run):
    return load_file(list_checkpoints(run)[-1] / "ema.safetensors")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_metadata_is_what_the_hub_reads(folders, recipe):
    data = card_of(folders[recipe]).data.to_dict()
    assert data["library_name"] == "harope"
    assert {"harope", "positional-encoding", recipe} <= set(data["tags"])
    expected = {
        "digits-vit": "image-classification",
        "scenes-dit": "unconditional-image-generation",
    }
    assert data["pipeline_tag"] == expected.get(recipe, "text-to-image")
    # It depends on the data, so its author has to choose it.
    assert "license" not in data
    front = (folders[recipe] / "README.md").read_text().split("---\n")[1]
    assert yaml.safe_load(front) == data


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_numbers_are_those_of_the_run(runs, folders, recipe):
    text, last = card_of(folders[recipe]).text, read_metrics(runs[recipe])[-1]
    for name in {"validation_loss", "fixed_training_loss", "loss"} & last.keys():
        (row,) = re.findall(rf"\(`{name}`\) \| ([\d.]+) \|", text)
        assert row == f"{last[name]:.4f}"
    if "top1" in last:
        score = Proportion(last["top1_right"], last["held_out_images"])
        assert f"(`top1`) | {format_proportion(score)} |" in text
    assert f"for {last['step']:,} steps of 4 images" in text
    assert "has not stated a license" in text
    assert (folders[recipe] / "metrics.jsonl").read_text() == (
        runs[recipe] / "metrics.jsonl"
    ).read_text()
    # Only the name of a folder is for readers.
    assert str(runs[recipe].parent) not in text


@pytest.mark.parametrize(
    ("data", "shown", "datasets"),
    [
        (HubDataConfig(root="somebody/pictures", image_size=32), "somebody/pictures", True),
        (HubDataConfig(root="/private/pictures", image_size=32), "root pictures", False),
        (
            CocoDataConfig(root="/private/train", annotations="/private/c.json", image_size=32),
            "annotations c.json",
            False,
        ),
    ],
)
def test_folders_are_neither_shown_nor_taken_for_ids(runs, data, shown, datasets):
    run = runs["scenes-mmdit"]
    config = replace(read_config(run), data=data)
    card = ModelCard(model_card(run, list_checkpoints(run)[-1], config, None, HUB_ID))
    assert shown in card.text
    assert "private" not in card.content
    assert card.data.datasets == (["somebody/pictures"] if datasets else None)


def test_the_encoding_is_described(folders):
    text = card_of(folders["scenes-dit"]).text
    assert "`harope`: q' = R A^T q" in text
    assert "Pairing `inverse`: the matrix of the keys is the inverse transpose" in text
    assert "The singular values of A lie between 1.0000 and 1.0000." in text
    assert "It has 1,024 parameters" in text
    assert "`scenes` (image_size 32): endless" in text
    assert "![Samples](samples.png)" in text


def test_a_dit_is_read_by_its_folder(runs, folders):
    model, average = DiT.from_pretrained(folders["scenes-dit"]), ema_of(runs["scenes-dit"])
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, average[name]), name
    code = re.search(r"```python\n(.*?)```", card_of(folders["scenes-dit"]).text, re.S)[1]
    names: dict = {}
    exec(code.replace(HUB_ID, str(folders["scenes-dit"])), names)
    assert isinstance(names["model"], DiT)


def test_an_encoding_is_read_by_its_folder(runs, folders):
    for recipe, create in {
        "scenes-dit": lambda folder: DiT(
            replace(DiT.from_pretrained(folder).config, encoding="axial", encoding_options={})
        ),
        "digits-vit": lambda folder: read_vit(folder, weights="model")[0],
    }.items():
        model, average = create(folders[recipe]), ema_of(runs[recipe])
        harope.load_encoding(model, folders[recipe])
        loaded = {n: p for n, p in model.named_parameters() if "raw_scale" in n or "skew" in n}
        assert loaded
        for name, parameter in loaded.items():
            assert torch.equal(parameter, average[name]), name


@pytest.mark.parametrize(
    ("recipe", "read"), [("digits-vit", read_vit), ("scenes-mmdit", read_mmdit)]
)
def test_other_models_are_read_by_their_folders(runs, folders, recipe, read):
    model, average = read(folders[recipe], weights="model")[0], ema_of(runs[recipe])
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, average[name]), name


def test_adapters_are_uploaded_instead_of_a_frozen_model(folders):
    names = {path.name for path in folders["flux-lora"].iterdir()}
    assert {"pytorch_lora_weights.safetensors", "harope.safetensors"} <= names
    assert "model.safetensors" not in names
    assert "harope.load_adapters(pipeline, snapshot_download" in card_of(folders["flux-lora"]).text


class FakeApi:
    """The Hub of a user who may write."""

    uploaded: dict[str, bytes]

    def __init__(self, token=None):
        pass

    def whoami(self):
        return {"name": "somebody"}

    def create_repo(self, repo_id, *, private, exist_ok):
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id, folder_path, revision, commit_message):
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        type(self).uploaded = files
        return f"https://hub/{repo_id}"


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "stored")
    return FakeApi


def test_a_run_is_pushed(runs, folders, hub):
    assert push_run(runs["scenes-dit"], HUB_ID) == f"https://hub/{HUB_ID}"
    folder = folders["scenes-dit"]
    assert hub.uploaded == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_training_pushes_its_result(tmp_path, hub, capsys):
    config = replace(get_recipe("scenes-dit").smoke(tmp_path), report_to=(), push_to_hub=HUB_ID)
    train(config, tmp_path / "run", quiet=True)
    assert f"uploaded to https://hub/{HUB_ID}" in capsys.readouterr().err
    assert json.loads(hub.uploaded["train.json"])["push_to_hub"] == HUB_ID


def test_a_training_that_could_not_be_pushed_does_not_begin(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    config = replace(get_recipe("scenes-dit").smoke(tmp_path), push_to_hub=HUB_ID)
    with pytest.raises(ValueError, match="needs an access token"):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_failed_upload_keeps_the_training(tmp_path, hub, monkeypatch):
    def fail(self, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(FakeApi, "upload_folder", fail)
    config = replace(get_recipe("scenes-dit").smoke(tmp_path), report_to=(), push_to_hub=HUB_ID)
    with pytest.raises(
        ValueError, match=r"the training is complete in .*\(?no network.*harope push"
    ):
        train(config, tmp_path / "run", quiet=True)
    assert list_checkpoints(tmp_path / "run")


def test_what_is_no_run_or_in_the_way_is_named(tmp_path, runs):
    with pytest.raises(ValueError, match="is not a run with a checkpoint"):
        push_run(tmp_path, HUB_ID)
    with pytest.raises(ValueError, match="is not a run: it has no config"):
        write_hub_folder(tmp_path, tmp_path / "out", HUB_ID)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not empty: choose another folder"):
        write_hub_folder(runs["scenes-dit"], tmp_path, HUB_ID)

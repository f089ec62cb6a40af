"""`harope train RECIPE --help`: every field with type, default and meaning."""

from dataclasses import fields

import pytest

from harope.cli.fields import field_docs, field_help, format_field_help, type_name
from harope.cli.main import main
from harope.lab.recipes import RECIPES
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.serialization import override, to_dict
from harope.lab.training.tasks.class_conditional import TrainConfig


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_has_a_meaning_and_can_be_set(name):
    config = RECIPES[name].config()
    items = [item for group in field_help(config, {}).values() for item in group]
    for item in items:
        assert item.text.endswith((".", ")", '"')), item.path
        assert "VALUE" not in type_name(item.hint), item.path
    paths = {item.path for item in items}
    assert {"steps", "optimizer.lr", "data.kind", "model.encoding"} <= paths
    # What the help shows as the value of the recipe is accepted, and changes nothing.
    simple = {
        item.path: item.default
        for item in items
        if isinstance(item.default, (int, float, str)) and "encoding_options" not in item.path
    }
    assert override(config, simple) == config


def test_the_groups_are_the_parts_of_the_configuration():
    titles = list(field_help(RECIPES["scenes-dit"].config(), {}))
    assert [title.partition(":")[0] for title in titles] == [
        "data",
        "model",
        "diffusion",
        "sampling",
        "optimizer",
        "training",
        "training, also when a run is resumed",
    ]


def test_docs_are_those_below_the_fields():
    docs = field_docs(TrainConfig)
    assert docs["num_samples"] == "Number of images in a sample grid."
    assert docs["steps"] == "Number of optimizer steps."
    assert set(field_docs(OptimizerConfig)) == {item.name for item in fields(OptimizerConfig)}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("optimizer.name", "{adamw,muon}"),
        ("optimizer.betas", "FLOAT,FLOAT"),
        ("optimizer.clip_norm", "FLOAT|none"),
        ("steps", "INT"),
        ("compile", "true|false|auto"),
        ("model.encoding", "TEXT"),
        ("precision", "{no,bf16,fp16}"),
        ("data.kind", "{scenes,idx,digits,folder,latents}"),
        ("model.encoding_options.pairing", "{same,inverse}"),
    ],
)
def test_types_are_written_as_on_the_command_line(path, text):
    groups = field_help(RECIPES["scenes-dit"].config(), {})
    (item,) = (item for group in groups.values() for item in group if item.path == path)
    assert type_name(item.hint) == text


def test_the_help_of_a_recipe(capsys):
    assert main(["train", "scenes-dit", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: harope train scenes-dit [--FIELD VALUE ...]")
    assert (
        "  --optimizer.lr FLOAT (default: 0.002)\n      Learning rate after the warm-up." in shown
    )
    assert max(map(len, shown.splitlines())) <= 100
    assert main(["compare", "scenes-dit", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: harope compare scenes-dit")


def test_another_kind_has_its_own_fields(capsys):
    assert main(["train", "scenes-dit", "--data.kind", "folder", "--help"]) == 0
    assert "--data.root TEXT (required)" in capsys.readouterr().out
    assert main(["train", "scenes-dit", "--data.kind", "flder", "--help"]) == 2
    assert "'flder' is unknown" in capsys.readouterr().err


def test_the_help_of_the_command_is_short_and_points_to_the_fields(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    assert "harope train RECIPE --help" in shown
    assert "--optimizer.lr" not in shown
    assert len(shown.splitlines()) < 50


def test_a_group_is_formatted_with_its_title():
    config = RECIPES["scenes-dit"].config()
    lines = format_field_help(field_help(config, {})).splitlines()
    assert lines[0] == "data: Training data"
    assert to_dict(config)["steps"] == 4600
    assert "  --steps INT (default: 4600)" in lines

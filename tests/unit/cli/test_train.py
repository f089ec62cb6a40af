"""How `harope train` finds its configuration: recipe, file, run and fields."""

import json
import shutil
import time
from pathlib import Path

import pytest

from harope.cli.main import build_parser, main
from harope.cli.train import _configured

TINY = "train digits-dit --smoke --batch_size 4 --log_every 1 --num_samples 2 --out run --steps"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    words = [str(run) if word == "run" else word for word in TINY.split()]
    assert main([*words, "2", "--quiet"]) == 0
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run of two steps, as the folder `run`."""
    return shutil.copytree(trained, tmp_path / "run")


def configuration(capsys, *words: str) -> dict:
    """What `harope train --dry-run` prints."""
    assert main(["train", *words, "--dry-run"]) == 0
    return json.loads(capsys.readouterr().out)


def error(capsys, *words: str) -> str:
    assert main(["train", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_fields_may_stand_before_the_recipe(capsys):
    values = configuration(capsys, "--lr", "0.5", "--compile", "--steps=9", "scenes-dit")
    assert (values["optimizer"]["lr"], values["compile"], values["steps"]) == (0.5, True, 9)
    assert values["recipe"] == "scenes-dit"


def test_dashes_and_underscores_are_equal(capsys):
    values = configuration(capsys, "scenes-dit", "--batch-size", "8", "--optimizer.weight-decay=1")
    assert (values["batch_size"], values["optimizer"]["weight_decay"]) == (8, 1.0)


@pytest.mark.parametrize("text", ["yes", "true", "1", "True", "on"])
def test_switches_are_written_in_several_ways(capsys, text):
    assert configuration(capsys, "scenes-dit", "--compile", text)["compile"] is True
    assert configuration(capsys, "scenes-dit", "--qk_norm", "no")["model"]["qk_norm"] is False


def test_lists_are_separated_by_commas(capsys):
    values = configuration(capsys, "scenes-dit", "--betas", "0.8,0.9")
    assert values["optimizer"]["betas"] == [0.8, 0.9]
    assert configuration(capsys, "scenes-dit", "--betas", "[0.8, 0.9]") == values
    options = ("--encoding", "axial", "--encoding_options.axes_dim", "8,24")
    values = configuration(capsys, "scenes-dit", *options)
    assert values["model"]["encoding_options"]["axes_dim"] == [8, 24]
    values = configuration(capsys, "scenes-mmdit", "--prompts", "a red circle,two stars")
    assert values["prompts"] == ["a red circle", "two stars"]


def test_a_toml_file_changes_a_recipe_and_the_command_line_wins(tmp_path, capsys):
    (tmp_path / "c.toml").write_text(
        'recipe = "scenes-dit"\nsteps = 7\nseed = 3\n[optimizer]\nlr = 0.25\nbetas = [0.1, 0.2]\n'
        "[model.encoding_options]\ntheta = 50.0\n"
    )
    values = configuration(capsys, "--config", "c.toml", "--lr", "0.5", "--steps", "8")
    assert (values["steps"], values["seed"], values["optimizer"]["lr"]) == (8, 3, 0.5)
    assert values["optimizer"]["betas"] == [0.1, 0.2]
    assert values["model"]["encoding_options"] == {"theta": 50.0}
    assert values["batch_size"] == 64
    # A recipe on the command line takes precedence too.
    assert configuration(capsys, "fashion-dit", "--config", "c.toml")["recipe"] == "fashion-dit"


def test_the_run_folder_is_named_after_the_encoding_of_the_command_line(tmp_path):
    (tmp_path / "c.toml").write_text('recipe = "scenes-dit"\nencoding = "axial"\n')
    parser = build_parser()
    for words, name in (
        ([], "runs/scenes-dit-axial"),
        (["--encoding", "harope"], "runs/scenes-dit-harope"),
        (["--model.encoding", "harope"], "runs/scenes-dit-harope"),
    ):
        options = parser.parse_args(["train", "--config", "c.toml"])
        options.fields = words
        training = _configured(options)
        assert training.out == Path(name)
        assert training.config.model.encoding == name.rpartition("-")[2]


def test_the_configuration_of_a_run_is_a_file(run, capsys):
    values = configuration(capsys, "--config", "run/config.json")
    assert values["steps"] == 2
    assert values["model"]["width"] == 32
    assert configuration(capsys, "--config", "run/config.json", "--steps", "3")["steps"] == 3
    same = configuration(capsys, "digits-dit", "--config", "run/config.json")
    assert same["model"]["width"] == 32


def test_another_kind_of_data_keeps_the_size_of_the_images(capsys):
    data = configuration(capsys, "scenes-dit", "--data.kind", "folder", "--data.root", "x")["data"]
    assert (data["kind"], data["image_size"]) == ("folder", 32)
    kind = ("--data.kind", "folder", "--data.root", "x", "--data.image_size", "64")
    assert configuration(capsys, "scenes-dit", *kind)["data"]["image_size"] == 64


def test_fields_of_another_kind_of_data_need_values_as_well(tmp_path, capsys):
    line = error(capsys, "scenes-dit", "--data.kind", "folder", "--data.root", "--steps", "3")
    assert "field --data.root has no value; write --data.root TEXT" in line
    (tmp_path / "c.toml").write_text('[data]\nkind = "folder"\n')
    line = error(capsys, "scenes-dit", "--config", "c.toml", "--data.root")
    assert "field --data.root has no value" in line
    flags = ("--data.kind", "folder", "--data.root", "x", "--data.random_flip")
    assert configuration(capsys, "scenes-dit", *flags)["data"]["random_flip"] is True
    assert "field --data.kind has no value" in error(capsys, "scenes-dit", "--data.kind")


def test_a_run_is_resumed_by_its_folder_and_keeps_its_steps(run, capsys):
    assert main(["train", "--resume", "run"]) == 0
    assert "has taken 2 of 2 steps: nothing to do" in capsys.readouterr().err
    assert configuration(capsys, "--resume", "run")["steps"] == 2
    assert main(["train", "--resume", "run", "--steps", "3"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[:2] == [
        "harope: steps: 3, was 2",
        "harope: going on from step 2 of 3",
    ]
    assert json.loads((run / "config.json").read_text())["steps"] == 3
    assert "step-00000003" in captured.out


def test_the_same_command_with_other_steps_says_so(run, capsys):
    assert main([*TINY.split(), "3"]) == 0
    assert "harope: steps: 3, was 2" in capsys.readouterr().err


def test_quiet_says_nothing_of_it(run, capsys):
    assert main(["--quiet", "train", "--resume", "run", "--steps", "3"]) == 0
    assert capsys.readouterr().err == ""


def test_a_resumed_run_takes_nothing_that_chooses_another(run, capsys):
    for words, option in (
        (("--out", "x"), "--out"),
        (("--config", "x.toml"), "--config"),
        (("--smoke",), "--smoke"),
        (("--from", "x"), "--from"),
    ):
        assert f"omit {option}" in error(capsys, "--resume", "run", *words)
    assert "a run of digits-dit, not of scenes-dit" in error(
        capsys, "scenes-dit", "--resume", "run"
    )
    assert "holds a run with" in error(capsys, "--resume", "run", "--lr", "5")


def test_smoke_needs_a_recipe(run, capsys):
    line = error(capsys, "--config", "run/config.json", "--smoke")
    assert "--smoke shrinks a recipe" in line


def test_refusals_are_fast(capsys):
    started = time.process_time()
    assert "'lrr' is unknown: did you mean 'lr'?" in error(capsys, "scenes-dit", "--lrr", "3")
    assert time.process_time() - started < 2

"""`harope evaluate` of scenes and classes, in this process."""

import json

import pytest
from PIL import Image

from harope.cli.main import main


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def one_line(capsys, *words):
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("harope: error: ")
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ceiling", "--count", "0"), "count 0 must be at least 1"),
        (("--ceiling", "--count", "-3"), "count -3 must be at least 1"),
        (("--ceiling", "--size", "0"), "size 0 must be at least 1"),
        ((), "pass either a folder of samples or --ceiling"),
        (("nowhere",), "nowhere is not a folder of samples"),
    ],
)
def test_bad_options_are_one_line(capsys, arguments, words):
    assert main(["evaluate", "scenes", *arguments]) == 2
    one_line(capsys, words)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "samples.json"),
        (None, "samples.json"),
        ({}, "count is missing"),
        ({"count": "many"}, "count"),
        ({"count": 2, "labels": [1]}, "count is 2 but there are 1 labels"),
        ({"count": 1, "labels": ["a"]}, "labels.0"),
        ({"count": 1, "labels": [0], "model": []}, "model"),
        ({"count": 1, "labels": [0], "model": {}}, "a model with None classes"),
        ({"count": 1, "labels": None, "model": {"num_classes": 180}}, "score samples of a scenes"),
        ({"count": 1, "labels": [999], "model": {"num_classes": 180}}, "labels must lie in"),
    ],
)
def test_descriptions_of_another_shape_are_one_line(tmp_path, capsys, values, words):
    Image.new("RGB", (8, 8)).save(tmp_path / "000000.png")
    (tmp_path / "samples.json").write_text(json.dumps(values))
    assert main(["evaluate", "scenes", "."]) == 2
    one_line(capsys, words)


@pytest.mark.parametrize(
    "values",
    [
        [],
        {},
        {"requests": [], "samples_per_prompt": 1},
        {"requests": [{"name": "0", "prompt": "a cow"}], "samples_per_prompt": "x"},
        {"requests": [{"name": "../0", "prompt": "a cow"}], "samples_per_prompt": 1},
        {"requests": {"name": "0"}, "samples_per_prompt": 1},
    ],
)
def test_plans_of_another_shape_are_one_line(tmp_path, capsys, values):
    (tmp_path / "prompts.json").write_text(json.dumps(values))
    assert main(["evaluate", "scenes", "."]) == 2
    one_line(capsys, "prompts.json")


@pytest.mark.parametrize("train", [None, {}, {"data": None}, {"data": {"split": 3}}, {"data": []}])
def test_samples_of_unknown_training_data_are_one_line(tmp_path, capsys, train):
    Image.new("RGB", (8, 8)).save(tmp_path / "000000.png")
    values = {"count": 1, "labels": [0], "model": {"num_classes": 10}, "train": train}
    (tmp_path / "samples.json").write_text(json.dumps(values))
    assert main(["evaluate", "classes", "."]) == 2
    one_line(capsys)

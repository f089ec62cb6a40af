"""`harope sample` for prompts, in this process: the real parser, pipeline and folders."""

import json

import pytest

from harope.cli.main import main
from harope.lab.recipes.tiny_sd3 import save_tiny_sd3
from support.scorer import geneval_reads, pixels


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return save_tiny_sd3(tmp_path_factory.mktemp("hub") / "sd3")


@pytest.fixture
def sample(tmp_path, monkeypatch, pipeline):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    lines = [
        {"tag": "single_object", "include": [{"class": "cow", "count": 1}], "prompt": "a cow"},
        {"tag": "counting", "include": [{"class": "dog", "count": 2}], "prompt": "two dogs"},
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/7.txt").write_text("a cow in a boat")
    (tmp_path / "p.txt").write_text("a cow\n\na boat\n")

    def run(*arguments, source=pipeline):
        command = ["sample", str(source), "--quiet", "--num-steps", "1", *arguments]
        return main(command)

    return run


def test_geneval(sample, tmp_path, capsys):
    assert sample("--geneval", "m.jsonl", "--samples-per-prompt", "2", "--out", "drawn") == 0
    assert "4 images of 2 prompts in drawn" in capsys.readouterr().out
    found = geneval_reads(tmp_path / "drawn")
    assert [(path, metadata["prompt"]) for path, metadata, _ in found] == [
        ("00000/samples/0000.png", "a cow"),
        ("00000/samples/0001.png", "a cow"),
        ("00001/samples/0000.png", "two dogs"),
        ("00001/samples/0001.png", "two dogs"),
    ]
    assert {image.shape for _, _, image in found} == {(16, 16, 3)}


def test_dpg_draws_four_samples_a_prompt(sample, tmp_path):
    assert sample("--dpg", "texts", "--out", "drawn", "--height", "8", "--width", "8") == 0
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["7.png"]
    assert pixels(tmp_path / "drawn/7.png").shape == (16, 16, 3)


def test_plain_prompts_draw_one_each_and_a_contact_sheet(sample, tmp_path, capsys):
    arguments = ("--prompts", "p.txt", "--out", "drawn", "--grid", "grid.png")
    assert sample(*arguments, "--guidance", "2") == 0
    assert "grid: grid.png" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "drawn").iterdir()}
    assert names == {"000000.png", "000001.png", "prompts.json"}
    made_by = json.loads((tmp_path / "drawn/prompts.json").read_text())["made_by"]
    assert (made_by["num_inference_steps"], made_by["guidance_scale"]) == (1, 2.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prompts", "p.txt", "--count", "3"), "--count does not apply to prompts; omit it"),
        (("--prompts", "p.txt", "--scaling", "ntk"), "--scaling applies to runs"),
        (
            ("--samples-per-prompt", "3"),
            "--samples-per-prompt requires --prompt, --prompts, --geneval, --dpg or",
        ),
        (
            ("--lora", "l"),
            "--lora requires --prompt, --prompts, --geneval, --dpg or --scenes-prompts; omit it",
        ),
        (("--prompts", "none.txt"), "none.txt"),
        (("--geneval", "p.txt"), "p.txt line 1 is not JSON"),
        ((), "is a diffusers pipeline, which needs prompts; pass --prompt, --prompts, --geneval"),
        (
            ("--prompts", "p.txt", "--samples-per-prompt", "0"),
            "samples_per_prompt and batch_size must be at least 1, got 0",
        ),
    ],
)
def test_options_that_do_not_go_together_are_one_line(sample, tmp_path, capsys, arguments, words):
    assert sample(*arguments, "--out", "drawn") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("harope: error: ")
    assert words in line
    assert not (tmp_path / "drawn").exists()


def test_a_run_of_classes_does_not_draw_prompts(sample, tmp_path, capsys):
    assert sample("--prompts", "p.txt", "--out", "drawn", source=tmp_path) == 2
    assert "cannot generate images from prompts" in capsys.readouterr().err


def test_a_second_form_is_refused_by_the_parser(sample, capsys):
    assert sample("--prompts", "p.txt", "--dpg", "texts", "--out", "drawn") == 2
    assert "not allowed with argument" in capsys.readouterr().err

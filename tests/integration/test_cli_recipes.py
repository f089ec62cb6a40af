import json

import numpy as np
import pytest
from PIL import Image

from harope.integrations import read_description
from harope.lab.recipes import RECIPES
from harope.models.dit import DiT
from harope.models.mmdit import read_mmdit
from harope.models.vit import read_vit


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_in_its_smoke_form_and_writes_a_whole_run(harope, tmp_path, name):
    done = harope("train", name, "--smoke", "--out", "run")
    run = tmp_path / "run"
    assert "checkpoints/step-00000004" in done.stdout
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert list((run / "tensorboard").iterdir())
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"] == name
    if config.get("task") == "text-to-image":
        assert (run / "samples/step-00000004.png").stat().st_size > 0
        # Without prompts, the grid shows captions of the eight images.
        prompts = 8 if name == "captioned-dit" else 4
        assert len((run / "samples/captions.txt").read_text().splitlines()) == prompts
        assert read_mmdit(run)[1]["encoding"] == "harope"
    elif config.get("task") == "flux-lora":
        assert (run / "samples/step-00000004.png").stat().st_size > 0
        assert read_description(run / "adapters")["name"] == "harope"
    elif "task" in config:
        assert f"of {lines[-1]['held_out_images']}" in done.stdout
        assert read_vit(run)[1].encoding == "harope"
    else:
        assert (run / "samples/step-00000004.png").stat().st_size > 0
        assert DiT.from_checkpoint(run).config.encoding == "harope"


@pytest.mark.parametrize("encoding", ["ape", "harope"])
def test_a_text_to_image_run_is_sampled_from_prompts_and_scored(harope, tmp_path, encoding):
    harope("train", "scenes-mmdit", "--smoke", "--encoding", encoding, "--out", "run", "--quiet")
    sample = ("sample", "run", "--scenes-prompts", 2, "--out", "drawn", "--quiet")
    assert "12 images of 12 prompts" in harope(*sample).stdout
    before = (tmp_path / "drawn/000007.png").read_bytes()
    (tmp_path / "drawn/000007.png").unlink()
    harope(*sample, "--batch-size", 5)
    assert (tmp_path / "drawn/000007.png").read_bytes() == before
    shown = harope("evaluate", "scenes", "drawn", "--json", "scores.json").stdout
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["ceiling"]["mean"]["successes"] == scores["samples"]["mean"]["total"] == 12
    assert len(shown.splitlines()) == 2 + 7
    refused = harope("sample", "run", "--out", "other", code=2)
    assert "pass --prompt, --prompts" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_classifier_is_scored_by_resolution_and_draws_no_samples(harope, tmp_path):
    harope("train", "digits-vit", "--smoke", "--out", "run", "--quiet")
    sizes = ("--sizes", "8,12", "--json", "scores.json")
    shown = harope("evaluate", "resolutions", "run", *sizes).stdout
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert list(scores) == ["extrapolate", "interpolate", "ntk", "yarn"]
    assert {score["8"]["successes"] for score in scores.values()} == {
        scores["ntk"]["8"]["successes"]
    }
    assert all(column in shown for column in scores)
    refused = harope("sample", "run", "--out", "drawn", code=2)
    assert "does not generate images" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_every_recipe_is_listed_with_a_line(harope):
    lines = harope("recipes").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)


def test_dry_run_prints_the_configuration_with_the_overrides_and_writes_nothing(harope, tmp_path):
    done = harope("train", "imagenet-dit", "--dry-run", "--lr", "3e-4", "--encoding", "axial")
    config = json.loads(done.stdout)
    assert config["optimizer"]["lr"] == 3e-4
    assert config["model"]["encoding"] == "axial"
    assert config["model"]["width"] == 768
    assert not list(tmp_path.iterdir())


def test_a_run_is_sampled_and_scored(harope, tmp_path):
    harope("train", "scenes-dit", "--smoke", "--out", "run", "--quiet")
    sampled = harope("sample", "run", "--count", 6, "--out", "drawn", "--grid", "grid.png",
                     "--npz", "drawn.npz")  # fmt: skip
    assert "6 samples" in sampled.stdout
    assert (tmp_path / "grid.png").exists()
    with np.load(tmp_path / "drawn.npz") as arrays:
        assert arrays["arr_0"].shape == (6, 32, 32, 3)
        with Image.open(tmp_path / "drawn/000003.png") as picture:
            assert np.array_equal(arrays["arr_0"][3], np.asarray(picture))
    scored = harope("evaluate", "scenes", "drawn", "--json", "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["samples"]["exact"]["total"] == 6
    assert scores["ceiling"]["exact"]["successes"] == 6
    assert "ceiling" in scored.stdout


def test_an_interrupted_folder_of_samples_is_completed_with_the_same_pictures(harope, tmp_path):
    harope("train", "digits-dit", "--smoke", "--out", "run", "--quiet")
    harope("sample", "run", "--count", 5, "--out", "whole", "--batch-size", 5)
    harope("sample", "run", "--count", 5, "--out", "parts", "--batch-size", 2)
    (tmp_path / "parts/000003.png").unlink()
    harope("sample", "run", "--count", 5, "--out", "parts", "--batch-size", 2)
    for index in range(5):
        name = f"{index:06d}.png"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_run_is_converted_and_sampled_from_the_converted_folder(harope, tmp_path):
    harope("train", "digits-dit", "--smoke", "--out", "run", "--quiet")
    harope("convert", "run", "out", "--half")
    harope("sample", "out", "--count", 2, "--out", "drawn", "--height", 12, "--scaling", "ntk")
    assert (tmp_path / "drawn/000001.png").exists()

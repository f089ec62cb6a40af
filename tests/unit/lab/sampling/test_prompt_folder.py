"""Folders of text-to-image samples: processes, resuming and errors."""

import json

import numpy as np
import pytest
import torch

from harope._utils.shards import Workers
from harope.lab.sampling.prompt_folder import (
    MANIFEST_FILE,
    FlatFolder,
    PromptPlan,
    join_tiles,
    read_complete_folder,
    sample_prompts,
)
from harope.lab.sampling.prompts import PromptRequest
from support.scorer import draw, picture, pixels

REQUESTS = tuple(PromptRequest(name=f"{i:06d}", prompt=word) for i, word in enumerate("abc"))
PLAN = PromptPlan(requests=REQUESTS, samples_per_prompt=2, first_seed=7, batch_size=4)
MADE_BY = {"model": "colours"}


def sample(out, draw=draw, plan=PLAN, **options):
    sample_prompts(draw, plan, FlatFolder(), out, quiet=True, **{"made_by": MADE_BY, **options})


def test_samples_depend_only_on_prompt_and_seed(tmp_path):
    sample(tmp_path)
    for index, path in enumerate(read_complete_folder(PLAN, FlatFolder(), tmp_path)):
        assert path.name == f"{index:06d}.png"
        expected = picture("abc"[index // 2], 7 + index)
        np.testing.assert_array_equal(pixels(path), expected.numpy())


def test_processes_share_samples_even_of_one_prompt(tmp_path):
    plan = PromptPlan(requests=REQUESTS[:1], samples_per_prompt=5)
    drawn = []

    def watch(prompts, seeds):
        drawn.append(seeds)
        return draw(prompts, seeds)

    for rank in range(3):
        sample(tmp_path, watch, plan, workers=Workers(rank=rank, world_size=3))
    assert drawn == [[0, 3], [1, 4], [2]]
    assert len(read_complete_folder(plan, FlatFolder(), tmp_path)) == 5


def test_batches_span_prompts_and_only_missing_samples_are_generated(tmp_path):
    calls = []

    def watch(prompts, seeds):
        calls.append((prompts, seeds))
        return draw(prompts, seeds)

    sample(tmp_path, watch)
    assert calls == [(["a", "a", "b", "b"], [7, 8, 9, 10]), (["c", "c"], [11, 12])]
    for index in (1, 4):
        (tmp_path / f"{index:06d}.png").unlink()
    sample(tmp_path, watch)
    assert calls[2:] == [(["a", "c"], [8, 11])]


def test_an_interrupted_run_leaves_complete_images_and_reports_missing_ones(tmp_path):
    def fail(prompts, seeds):
        if "c" in prompts:
            raise KeyboardInterrupt
        return draw(prompts, seeds)

    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path, fail)
    with pytest.raises(
        ValueError, match=r"is missing 2 of 6 images, the first being 000004\.png: run the same"
    ):
        read_complete_folder(PLAN, FlatFolder(), tmp_path)
    sample(tmp_path)
    assert len(read_complete_folder(PLAN, FlatFolder(), tmp_path)) == 6
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "changes",
    [
        {"made_by": {"model": "shapes"}},
        {"plan": PromptPlan(requests=REQUESTS, samples_per_prompt=2, first_seed=8)},
        {"plan": PromptPlan(requests=REQUESTS[:2], samples_per_prompt=3, first_seed=7)},
    ],
)
def test_a_folder_with_another_plan_or_model_is_refused(tmp_path, changes):
    sample(tmp_path)
    with pytest.raises(
        ValueError, match=r"holds samples made from something else \(.*\): choose another --out"
    ):
        sample(tmp_path, **changes)


def test_a_folder_of_unknown_origin_is_refused_by_every_process(tmp_path):
    (tmp_path / "000000.png").write_bytes(b"mine")
    for rank in range(2):
        with pytest.raises(ValueError, match=rf"holds files but no .*{MANIFEST_FILE}"):
            sample(tmp_path, workers=Workers(rank=rank, world_size=2))
    assert [path.name for path in tmp_path.iterdir()] == ["000000.png"]


def test_the_manifest_describes_the_generation(tmp_path):
    sample(tmp_path)
    manifest = json.loads((tmp_path / MANIFEST_FILE).read_text())
    assert manifest["made_by"] == MADE_BY
    assert (manifest["first_seed"], manifest["samples_per_prompt"]) == (7, 2)
    assert [request["prompt"] for request in manifest["requests"]] == ["a", "b", "c"]


@pytest.mark.usefixtures("annotations_unchecked")
@pytest.mark.parametrize("images", [torch.zeros(4, 4, 4, 3), torch.zeros(2, 4, 4, 3).byte()])
def test_invalid_images_are_refused(tmp_path, images):
    with pytest.raises(ValueError, match=r"generate returned .* for 4 prompts: it must return"):
        sample(tmp_path, lambda prompts, seeds: images)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"samples_per_prompt": 0},
            "samples_per_prompt and batch_size must be at least 1, got 0 and 4",
        ),
        ({"samples_per_prompt": 1, "batch_size": 0}, "batch_size must be at least 1, got 1 and 0"),
        ({"samples_per_prompt": 1, "requests": ()}, "there are no requests"),
    ],
)
def test_plans_without_samples_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        PromptPlan(**{"requests": REQUESTS, **changes})


def test_tiles_are_joined_row_by_row_and_the_last_row_is_filled(tmp_path):
    sample(tmp_path)
    paths = [tmp_path / f"{index:06d}.png" for index in range(3)]
    first, second, third = (torch.from_numpy(pixels(path).copy()) for path in paths)
    joined = join_tiles(paths, 2)
    upper, lower = torch.cat([first, second], 1), torch.cat([third, torch.zeros_like(third)], 1)
    torch.testing.assert_close(joined, torch.cat([upper, lower]))

"""GenEval's folder as its scorer reads it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from harope._utils.atomic import temporary_path
from harope._utils.shards import Workers
from harope.lab.evals.geneval.folders import GenEvalFolder
from harope.lab.evals.geneval.prompts import read_geneval
from harope.lab.sampling.prompt_folder import (
    FlatFolder,
    PromptPlan,
    read_complete_folder,
    sample_prompts,
)
from support.scorer import draw, draw_batches, geneval_reads, picture, pixels

LINES = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a bench"},
    {
        "tag": "counting",
        "include": [{"class": "clock", "count": 2}],
        "exclude": [{"class": "clock", "count": 3}],
        "prompt": "two clocks",
    },
    {
        "tag": "color_attr",
        "include": [
            {"class": "cow", "count": 1, "color": "red"},
            {"class": "dog", "count": 1, "color": "blue"},
        ],
        "prompt": "a red cow and a blue dog",
    },
]


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return PromptPlan(requests=read_geneval(path), samples_per_prompt=4, batch_size=3)


def sample(plan, out, draw=draw, **options):
    sample_prompts(draw, plan, GenEvalFolder(), out, made_by={}, quiet=True, **options)


@pytest.mark.parametrize("world_size", [1, 2])
def test_the_scorer_finds_every_sample_with_its_line(plan, tmp_path, world_size):
    out = tmp_path / "drawn"
    for rank in range(world_size):
        sample(plan, out, workers=Workers(rank=rank, world_size=world_size))
    found = geneval_reads(out)
    assert [path for path, _, _ in found] == [
        f"{line:05d}/samples/{place:04d}.png" for line in range(3) for place in range(4)
    ]
    for index, (_, metadata, image) in enumerate(found):
        assert metadata == LINES[index // 4]
        np.testing.assert_array_equal(image, picture(metadata["prompt"], index).numpy())
    assert read_complete_folder(plan, GenEvalFolder(), out) == [out / path for path, _, _ in found]


def test_the_grid_shows_the_samples_row_by_row(plan, tmp_path):
    sample(plan, tmp_path / "drawn")
    grid = pixels(tmp_path / "drawn/00001/grid.png")
    assert grid.shape == (8, 8, 3)
    for place in range(4):
        top, left = place // 2 * 4, place % 2 * 4
        tile = grid[top : top + 4, left : left + 4]
        np.testing.assert_array_equal(tile, picture("two clocks", 4 + place).numpy())


def test_a_run_killed_at_any_picture_is_completed_to_the_same_bytes(plan, tmp_path):
    sample(plan, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        sample(plan, tmp_path / "drawn", draw_batches(2))
    samples = tmp_path / "drawn/00002/samples"
    leftover = temporary_path(samples / "0000.png")
    leftover.write_bytes(b"half")
    assert len(geneval_reads(tmp_path / "drawn")) == 6
    sample(plan, tmp_path / "drawn")
    files = [path for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    assert len(files) == 3 * 6 + 1
    for path in files:
        other = tmp_path / "drawn" / path.relative_to(tmp_path / "whole")
        assert other.read_bytes() == path.read_bytes()
    assert not leftover.exists()


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def test_overwritten_samples_leave_no_file_of_the_former_ones(plan, tmp_path):
    out, fresh = tmp_path / "drawn", tmp_path / "fresh"
    sample(plan, out)
    shorter = replace(plan, requests=plan.requests[:2], samples_per_prompt=1)
    with pytest.raises(ValueError, match=r"\(count 12, not 2\): .* --overwrite"):
        sample(shorter, out)
    sample(shorter, out, overwrite=True)
    sample(shorter, fresh)
    assert tree(out) == tree(fresh)
    assert sorted(path.name for path in out.iterdir()) == ["00000", "00001", "prompts.json"]


def test_damaged_images_are_generated_again(plan, tmp_path):
    out = tmp_path / "drawn"
    sample(plan, out)
    before = tree(out)
    for name in ("00000/samples/0002.png", "00001/grid.png"):
        (out / name).write_bytes((out / name).read_bytes()[:-20])
    sample(plan, out)
    assert tree(out) == before


def test_samples_in_another_format_are_not_overwritten(plan, tmp_path):
    out = tmp_path / "drawn"
    sample_prompts(draw, plan, FlatFolder(), out, made_by={}, quiet=True)
    with pytest.raises(ValueError, match=r"another format than 'geneval', .*choose another --out"):
        sample(plan, out, overwrite=True)
    assert len(list(out.glob("*.png"))) == 12

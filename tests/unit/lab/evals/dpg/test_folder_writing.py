"""DPG-Bench's folder as its scorer reads it."""

import csv
import os

import numpy as np
import pytest
import torch

from harope._utils.shards import Workers
from harope.lab.evals.dpg.folders import DPGFolder
from harope.lab.evals.dpg.prompts import read_dpg
from harope.lab.sampling.prompt_folder import PromptPlan, read_complete_folder, sample_prompts
from support.scorer import dpg_reads, draw, draw_batches, draw_nothing, picture

PROMPTS = {"12": "a dozen eggs", "COCOval2014000000000042": "a ship at sea", "partiprompts5": "tea"}


@pytest.fixture
def requests(tmp_path):
    (tmp_path / "prompts").mkdir()
    for stem, prompt in PROMPTS.items():
        (tmp_path / "prompts" / f"{stem}.txt").write_text(prompt)
    return read_dpg(tmp_path / "prompts")


@pytest.fixture
def table(tmp_path):
    """Two questions a prompt, under the columns of the official `dpg_bench.csv`."""
    columns = ["item_id", "text", "proposition_id", "dependency", "question_natural_language"]
    with (tmp_path / "dpg_bench.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for stem, prompt in PROMPTS.items():
            for number in (1, 2):
                writer.writerow(
                    dict(zip(columns, [stem, prompt, number, 0, "Is it?"], strict=True))
                )
    return tmp_path / "dpg_bench.csv"


def sample(requests, out, draw=draw, count=4, **options):
    plan = PromptPlan(requests=requests, samples_per_prompt=count, batch_size=3)
    sample_prompts(draw, plan, DPGFolder(), out, made_by={}, quiet=True, **options)
    return plan


@pytest.mark.parametrize("world_size", [1, 2])
def test_the_scorer_cuts_four_samples_of_every_prompt_in_order(
    requests, table, tmp_path, world_size
):
    out = tmp_path / "drawn"
    for rank in range(world_size):
        plan = sample(requests, out, workers=Workers(rank=rank, world_size=world_size))
    tiles, failed = dpg_reads(out, table, resolution=4, pic_num=4)
    assert failed == []
    assert sorted(tiles) == sorted(PROMPTS)
    for index, (stem, prompt) in enumerate(PROMPTS.items()):
        for place, tile in enumerate(tiles[stem]):
            np.testing.assert_array_equal(tile, picture(prompt, 4 * index + place).numpy())
    assert read_complete_folder(plan, DPGFolder(), out) == [out / f"{stem}.png" for stem in PROMPTS]


def test_one_sample_is_a_picture_by_itself(requests, table, tmp_path):
    sample(requests, tmp_path / "drawn", count=1)
    tiles, failed = dpg_reads(tmp_path / "drawn", table, resolution=4, pic_num=1)
    assert failed == []
    np.testing.assert_array_equal(tiles["12"][0], picture("a dozen eggs", 0).numpy())


def test_nothing_but_whole_grids_lies_in_the_folder_while_samples_wait(requests, table, tmp_path):
    out = tmp_path / "drawn"
    with pytest.raises(KeyboardInterrupt):
        sample(requests, out, draw_batches(2))
    assert os.listdir(out) == ["12.png"]
    waiting = tmp_path / "drawn.work" / "COCOval2014000000000042"
    assert sorted(os.listdir(waiting)) == ["0.png", "1.png"]
    drawn = []

    def watch(prompts, seeds):
        drawn.extend(seeds)
        return draw(prompts, seeds)

    sample(requests, out, watch)
    assert drawn == [6, 7, 8, 9, 10, 11]
    assert len(dpg_reads(out, table, resolution=4, pic_num=4)[0]) == 3
    assert os.listdir(tmp_path / "drawn.work") == ["prompts.json"]


def test_samples_that_a_kill_left_whole_are_joined_without_drawing(requests, tmp_path, monkeypatch):
    out = tmp_path / "drawn"
    with monkeypatch.context() as patch:
        patch.setattr(DPGFolder, "finish_prompt", lambda *_: None)
        sample(requests, out)
    assert os.listdir(out) == []
    sample(requests, out, draw_nothing)
    assert sorted(os.listdir(out)) == sorted(f"{stem}.png" for stem in PROMPTS)


def test_results_that_the_scorer_wrote_do_not_disturb(requests, tmp_path):
    sample(requests, tmp_path / "drawn")
    (tmp_path / "drawn/dpg-bench_results.txt").write_text("")
    sample(requests, tmp_path / "drawn", draw_nothing)


def test_pictures_that_are_not_square_are_refused(requests, tmp_path):
    def wide(prompts, seeds):
        return torch.zeros(len(prompts), 4, 6, 3, dtype=torch.uint8)

    with pytest.raises(ValueError, match="are 4 x 6 but DPG-Bench's scorer cuts squares"):
        sample(requests, tmp_path / "drawn", wide)


def test_overwritten_samples_leave_no_file_of_the_former_ones(requests, tmp_path):
    out = tmp_path / "drawn"
    with pytest.raises(KeyboardInterrupt):
        sample(requests, out, draw_batches(3))
    sample(requests[:1], out, count=2, overwrite=True)
    sample(requests[:1], tmp_path / "fresh", count=2)
    (grid,) = out.iterdir()
    assert grid.read_bytes() == (tmp_path / "fresh" / grid.name).read_bytes()
    assert os.listdir(tmp_path / "drawn.work") == ["prompts.json"]


def test_a_damaged_grid_and_a_damaged_tile_are_generated_again(requests, tmp_path):
    out = tmp_path / "drawn"
    with pytest.raises(KeyboardInterrupt):
        sample(requests, out, draw_batches(3))
    whole = (out / "12.png").read_bytes()
    (out / "12.png").write_bytes(whole[:-20])
    tile = tmp_path / "drawn.work/partiprompts5/0.png"
    tile.write_bytes(tile.read_bytes()[:-20])
    sample(requests, out)
    sample(requests, tmp_path / "fresh")
    for grid in (tmp_path / "fresh").iterdir():
        assert (out / grid.name).read_bytes() == grid.read_bytes()

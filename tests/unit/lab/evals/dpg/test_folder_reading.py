import numpy as np
import pytest
from PIL import Image

from harope.lab.evals.dpg.folders import check_grid_sizes, cut_tiles, read_dpg_folder
from harope.lab.metrics.tolerant_reader import TolerantReader
from support.scorer import save_pixel

ITEMS = {"a": {}, "b": {}}


@pytest.fixture
def folder(tmp_path):
    for item in ITEMS:
        save_pixel(tmp_path / "drawn" / f"{item}.png", (0, 0, 0))
    return tmp_path / "drawn"


def save(path, width, height):
    Image.new("RGB", (width, height)).save(path)


def check(folder, tiles):
    names = read_dpg_folder(folder, ITEMS)
    check_grid_sizes(folder, list(names.values()), tiles, TolerantReader(folder, len(names), 0.0))


def test_pictures_are_found_by_stem_and_hidden_files_passed_over(folder):
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "b.png").rename(folder / "b.jpg")
    assert read_dpg_folder(folder, ITEMS) == {"a": "a.png", "b": "b.jpg"}


def test_pictures_and_questions_must_be_of_the_same_prompts(folder):
    with pytest.raises(ValueError, match=r"1 images of prompts without questions, first b"):
        read_dpg_folder(folder, {"a": {}})
    with pytest.raises(ValueError, match=r"drawn is missing 1 of 3 images, .* prompt c"):
        read_dpg_folder(folder, {**ITEMS, "c": {}})


def test_two_pictures_of_a_prompt_are_refused(folder):
    save_pixel(folder / "a.jpg", (0, 0, 0))
    with pytest.raises(ValueError, match=r"a\.png and a\.jpg both belong to prompt a"):
        read_dpg_folder(folder, ITEMS)


def test_folders_of_another_layout_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (folder / "00000").mkdir()
    for path, words in (
        (folder, "00000 is not an image"),
        (tmp_path / "empty", "holds no image"),
        (tmp_path / "nowhere", "is not a folder"),
    ):
        with pytest.raises(ValueError, match=words):
            read_dpg_folder(path, ITEMS)


@pytest.mark.parametrize(("width", "height", "tiles"), [(8, 8, 4), (8, 8, 1), (8, 4, 2), (8, 8, 3)])
def test_grids_that_fit(folder, width, height, tiles):
    for item in ITEMS:
        save(folder / f"{item}.png", width, height)
    check(folder, tiles)


@pytest.mark.parametrize(("width", "height", "tiles"), [(8, 6, 4), (7, 7, 4), (8, 4, 1), (8, 8, 2)])
def test_a_grid_that_does_not_fit_is_named(folder, width, height, tiles):
    for item in ITEMS:
        save(folder / f"{item}.png", width, height)
    with pytest.raises(
        ValueError, match=rf"a\.png is {height} x {width} pixels, which is not a grid of"
    ):
        check(folder, tiles)


def test_grids_must_have_one_size(folder):
    save(folder / "b.png", 12, 12)
    with pytest.raises(ValueError, match=r"b\.png is 12 x 12 pixels but a\.png is 8 x 8"):
        check(folder, 4)


@pytest.mark.parametrize("tiles", [0, 5])
def test_the_script_knows_up_to_four_tiles(folder, tiles):
    with pytest.raises(ValueError, match=f"samples_per_prompt {tiles} must lie in 1 .. 4"):
        check(folder, tiles)


def test_tiles_are_cut_left_to_right_and_then_down():
    grid = np.arange(4, dtype=np.uint8).reshape(2, 2).repeat(3, 0).repeat(3, 1)
    tiles = cut_tiles(np.stack([grid] * 3, -1), 4)
    assert [tile.shape for tile in tiles] == [(3, 3, 3)] * 4
    assert [set(tile.flat) for tile in tiles] == [{0}, {1}, {2}, {3}]

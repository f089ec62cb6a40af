import pytest
import torch
from PIL import Image

from harope.lab.data.image_io import save_png, to_uint8
from harope.lab.metrics.intervals import Proportion
from harope.lab.reporting.images import read_images, write_image_grid
from harope.lab.reporting.plots import plot_losses, plot_scores


def write(path, values) -> None:
    save_png(to_uint8(values[None])[0], path)


def test_pictures_go_round_to_a_grey_level(tmp_path):
    image = torch.rand(3, 5, 7) * 2 - 1
    write(tmp_path / "a.png", image)
    back = read_images([tmp_path / "a.png"])[0] * 2 - 1
    assert (back - image).abs().max() <= 1 / 255 + 1e-6


def test_ends_of_the_range_are_black_and_white_and_the_rest_is_clipped():
    values = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).view(1, 1, 1, 5)
    assert to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_a_grid_has_its_pictures_in_rows(tmp_path):
    paths = []
    for index, value in enumerate((-1.0, 0.0, 1.0)):
        paths.append(tmp_path / f"{index}.png")
        write(paths[-1], torch.full((3, 4, 4), value))
    write_image_grid(paths, tmp_path / "grid.png", columns=2)
    with Image.open(tmp_path / "grid.png") as file:
        grid = file.convert("L")
    assert grid.size == (2 * 10 + 2, 2 * 10 + 2)
    assert [grid.getpixel(at) for at in ((5, 5), (15, 5), (5, 15))] == [0, 128, 255]


def test_unreadable_and_odd_sized_pictures_are_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"bad.png cannot be read"):
        read_images([tmp_path / "bad.png"])
    for name, size in (("a.png", 4), ("b.png", 5)):
        write(tmp_path / name, torch.zeros(3, size, size))
    with pytest.raises(ValueError, match=r"b.png has the shape .*5, 5.*4, 4"):
        read_images([tmp_path / "a.png", tmp_path / "b.png"])


def test_plots_are_pictures_of_some_size(tmp_path):
    curve = [{"images": 10 * n, "loss": 1 / n} for n in (1, 2, 3)]
    plot_losses({"one": curve, "two": curve}, tmp_path / "losses.png")
    plot_scores({"one": {"exact": Proportion(1, 2)}, "two": {}}, tmp_path / "scores.png")
    for name in ("losses.png", "scores.png"):
        with Image.open(tmp_path / name) as plot:
            assert min(plot.size) > 100

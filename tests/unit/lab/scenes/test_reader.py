import subprocess
import sys
from math import pi

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from harope.lab.scenes.ceiling import is_exact
from harope.lab.scenes.grammar import (
    COLORS,
    KINDS,
    TASKS,
    UNKNOWN,
    Scene,
    Shape,
    class_prompt,
    rng_for,
    sample_prompt,
    sample_scene,
)
from harope.lab.scenes.reader import read, read_batch
from harope.lab.scenes.render import render
from harope.lab.scenes.sdf import DISTANCES


def draw(task: str, count: int) -> list[Scene]:
    generators = [rng_for(17, index) for index in range(count)]
    return [sample_scene(sample_prompt(task, rng), rng) for rng in generators]


def picture(*shapes: Shape, size: int = 32) -> Tensor:
    return render([Scene(shapes)], size)[0]


def painted(inside: np.ndarray, color: str = "blue") -> Tensor:
    """A picture at half the mask's resolution, so that its outline is smooth."""
    alpha = torch.from_numpy(inside).float()[None, None]
    alpha = torch.nn.functional.avg_pool2d(alpha, 2)[0]
    return 1 - alpha * (1 - torch.tensor(COLORS[color])[:, None, None])


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of pixel centres about the picture's centre."""
    line = (np.arange(size) + 0.5) / size - 0.5
    return line[None, :].repeat(size, 0), line[:, None].repeat(size, 1)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("size", "count"), [(32, 64), (64, 32)])
def test_reader_is_exact_on_clean_pictures(task: str, size: int, count: int):
    scenes = draw(task, count)
    assert all(map(is_exact, read_batch(render(scenes, size)), scenes))


@pytest.mark.parametrize("size", [48, 128, 200, 256])
def test_reader_is_exact_at_other_sizes(size: int):
    scenes = [sample_scene(class_prompt(label), rng_for(2, label)) for label in range(3, 180, 19)]
    assert all(map(is_exact, read_batch(render(scenes, size)), scenes))


def test_reader_is_exact_on_six_shapes():
    scenes = [sample_scene(class_prompt(label), rng_for(3, label)) for label in range(5, 180, 6)]
    assert all(len(scene.shapes) == 6 for scene in scenes)
    assert all(map(is_exact, read_batch(render(scenes, 32)), scenes))


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_reader_is_exact_on_blurred_pictures(sigma: float):
    scenes = draw("color_attr", 20)
    blurred = gaussian_filter(render(scenes, 32).numpy(), (0, 0, sigma, sigma))
    assert all(map(is_exact, read_batch(torch.from_numpy(blurred)), scenes))


def test_reader_is_exact_on_noisy_pictures():
    scenes = draw("color_attr", 20)
    noise = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert all(map(is_exact, read_batch((render(scenes, 32) + 0.1 * noise).clamp(0, 1)), scenes))


def test_reader_is_exact_on_an_off_white_background():
    scenes = draw("color_attr", 20)
    tinted = render(scenes, 32) * torch.tensor([0.95, 0.92, 0.88])[:, None, None]
    assert all(map(is_exact, read_batch(tinted), scenes))


def test_reader_is_exact_on_pale_pictures():
    scenes = draw("color_attr", 20)
    assert all(map(is_exact, read_batch(0.3 + 0.7 * render(scenes, 32)), scenes))


@pytest.mark.parametrize("color", COLORS)
def test_slightly_wrong_hues_keep_their_name(color: str):
    image = picture(Shape("square", "red", 0.2, 0.5, 0.5))
    rgb = torch.tensor(COLORS[color])[:, None, None]
    inside = (image[1:2] < 0.5).float()
    for channel in range(3):
        shift = torch.zeros(3, 1, 1)
        shift[channel] = 0.1
        for wrong in (rgb + shift, rgb - shift):
            reading = read((1 - inside * (1 - wrong)).clamp(0, 1))
            assert [shape.color for shape in reading.shapes] == [color]


@pytest.mark.parametrize("value", [1.0, 0.9])
def test_blank_pictures_have_no_shapes(value: float):
    assert read(torch.full((3, 32, 32), value)) == Scene(())


@pytest.mark.parametrize("color", COLORS)
def test_a_picture_of_one_color_throughout_is_no_shape(color: str):
    assert read(torch.tensor(COLORS[color])[:, None, None].expand(3, 32, 32)) == Scene(())


@pytest.mark.parametrize("size", [8, 32, 65])
def test_mere_noise_has_no_shapes(size: int):
    noise = torch.rand(20, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert read_batch(noise) == [Scene(())] * 20


def test_specks_are_ignored():
    image = picture(Shape("star", "red", 0.15, 0.6, 0.6))
    image[:, 2:4, 2] = 0.0
    assert [shape.kind for shape in read(image).shapes] == ["star"]


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("first", KINDS)
def test_touching_shapes_of_two_colors_are_two(first: str, size: int):
    left = Shape(first, "red", 0.2, 0.3, 0.5)
    right = Shape("square", "blue", 0.2, 0.3 + 0.2 + 0.1414, 0.5)
    assert is_exact(read(picture(right, left, size=size)), Scene((left, right)))


def test_touching_shapes_of_one_color_are_unknown():
    reading = read(
        picture(Shape("circle", "red", 0.15, 0.36, 0.5), Shape("circle", "red", 0.15, 0.64, 0.5))
    )
    assert [shape.kind for shape in reading.shapes] == [UNKNOWN]


def blobs() -> dict[str, np.ndarray]:
    x, y = grid(128)
    radius = np.hypot(x, y)
    upside_down = DISTANCES["triangle"](torch.from_numpy(x / 0.2), torch.from_numpy(-y / 0.2))
    return {
        "ring": (radius < 0.2) & (radius > 0.1),
        "half disc": (radius < 0.2) & (y < 0),
        "bar": (abs(x) < 0.2) & (abs(y) < 0.07),
        "ellipse": np.hypot(x / 1.4, y * 1.4) < 0.15,
        "corner": (abs(x) < 0.2) & (abs(y) < 0.2) & ~((x > 0) & (y < 0)),
        "triangle upside down": upside_down.numpy() < 0,
    }


@pytest.mark.parametrize("name", blobs())
def test_blobs_that_match_nothing_are_unknown(name: str):
    assert [shape.kind for shape in read(painted(blobs()[name])).shapes] == [UNKNOWN]


def test_dots_too_small_to_tell_apart_are_unknown():
    x, y = grid(128)
    reading = read(painted(np.hypot(x, y) < 0.045))
    assert [shape.kind for shape in reading.shapes] == [UNKNOWN]


def test_reader_finds_a_disc_painted_by_other_means():
    x, y = grid(128)
    reading = read(painted(np.hypot(x - 0.1, y + 0.05) < 0.18))
    (disc,) = reading.shapes
    assert (disc.kind, disc.color) == ("circle", "blue")
    assert (disc.x, disc.y) == pytest.approx((0.6, 0.45), abs=0.005)
    assert pi * disc.radius**2 == pytest.approx(pi * 0.18**2, rel=0.05)


def test_half_precision_and_gradients_are_taken():
    scene = Scene((Shape("cross", "green", 0.2, 0.5, 0.5),))
    image = render([scene], 32)[0]
    assert is_exact(read(image.to(torch.bfloat16)), scene)
    assert is_exact(read(image.requires_grad_()), scene)


def test_pictures_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="images contain NaN or infinity"):
        read(torch.full((3, 32, 32), float("nan")))


def test_importing_scenes_does_not_load_scipy():
    code = "import harope.lab.scenes, sys; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

from itertools import cycle
from math import cos, hypot, pi, sin, sqrt

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from harope.lab.scenes.grammar import (
    COLORS,
    KINDS,
    Scene,
    Shape,
    class_prompt,
    rng_for,
    sample_scene,
)
from harope.lab.scenes.matching import UNIT_AREAS
from harope.lab.scenes.render import coverage, render
from harope.lab.scenes.sdf import CROSS_HALF_WIDTH, DISTANCES, STAR_INNER

POLYGONS = ("square", "triangle", "star", "cross")


def corners(kind: str) -> np.ndarray:
    """Corners of the shape with circumscribed radius 1, y downwards."""
    if kind == "cross":
        w, length = CROSS_HALF_WIDTH, sqrt(1 - CROSS_HALF_WIDTH**2)
        arm = np.array([(w, w), (length, w), (length, -w)])
        turn = np.array([(0, -1), (1, 0)])
        return np.concatenate([arm @ np.linalg.matrix_power(turn, k) for k in range(4)])
    points, radii = {
        "square": (4, [1]),
        "triangle": (3, [1]),
        "star": (10, [1, STAR_INNER]),
    }[kind]
    start = pi / 4 if kind == "square" else 0
    angles = [start + 2 * pi * k / points for k in range(points)]
    return np.array([(r * sin(a), -r * cos(a)) for a, r in zip(angles, cycle(radii), strict=False)])


def shoelace(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def polygon_distance(polygon: np.ndarray, point: np.ndarray) -> float:
    """Signed distance by brute force: nearest edge, and the number of edges a ray crosses."""
    distance, inside = np.inf, False
    for a, b in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        along = np.clip((point - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        distance = min(distance, np.linalg.norm(point - a - along * (b - a)))
        if (a[1] > point[1]) != (b[1] > point[1]):
            inside ^= point[0] < a[0] + (point[1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
    return -distance if inside else distance


def picture(kind: str, size: int, radius: float = 0.3, color: str = "red") -> torch.Tensor:
    return render([Scene((Shape(kind, color, radius, 0.5, 0.5),))], size)[0]


@pytest.mark.parametrize("kind", POLYGONS)
def test_distance_equals_that_to_the_polygon(kind: str):
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (300, 2))
    expected = [polygon_distance(corners(kind), point) for point in points]
    x, y = torch.from_numpy(points).T
    np.testing.assert_allclose(DISTANCES[kind](x, y).numpy(), expected, atol=1e-12)


def test_distance_to_the_circle_is_that_to_its_centre_less_one():
    x, y = torch.tensor([0.0, 3.0, 0.6]), torch.tensor([0.0, 4.0, 0.8])
    torch.testing.assert_close(DISTANCES["circle"](x, y), torch.tensor([-1.0, 4.0, 0.0]))


@pytest.mark.parametrize("kind", POLYGONS)
def test_polygons_touch_their_circumscribed_circle(kind: str):
    assert max(hypot(x, y) for x, y in corners(kind)) == pytest.approx(1)


@pytest.mark.parametrize("kind", POLYGONS)
def test_known_areas_are_those_of_the_polygons(kind: str):
    assert UNIT_AREAS[kind] == pytest.approx(shoelace(corners(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_covered_area_equals_the_closed_form(kind: str):
    area = pi if kind == "circle" else shoelace(corners(kind))
    covered = coverage([Shape(kind, "red", 0.3, 0.45, 0.52)], 256)
    assert covered.mean().item() == pytest.approx(0.3**2 * area, rel=2e-3)


def test_background_is_white_and_the_inside_has_the_color():
    image = picture("circle", 32, color="cyan")
    assert image[:, 0, 0].tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(image[:, 16, 16], torch.tensor(COLORS["cyan"]))


@pytest.mark.parametrize("kind", KINDS)
def test_outline_is_at_most_two_pixels_wide(kind: str):
    covered = coverage([Shape(kind, "red", 0.3, 0.5, 0.5)], 64)[0]
    partial = ((covered > 0) & (covered < 1)).sum().item()
    perimeter = 2 * pi if kind == "circle" else polygon_perimeter(corners(kind))
    assert 0 < partial < 2 * perimeter * 0.3 * 64


def polygon_perimeter(polygon: np.ndarray) -> float:
    return np.linalg.norm(polygon - np.roll(polygon, 1, 0), axis=1).sum()


def test_coverage_follows_an_edge_between_pixels():
    # The square's half side is 8 pixels; its centre moves right by a quarter of a pixel.
    radius = sqrt(2) * 8 / 32
    row = coverage([Shape("square", "red", radius, 0.5 + 0.25 / 32, 0.5)], 32)[0, 16]
    assert row[8].item() == pytest.approx(0.75, abs=1e-5)
    assert row[24].item() == pytest.approx(0.25, abs=1e-5)


def test_resolutions_agree_after_averaging():
    scenes = [sample_scene(class_prompt(label), rng_for(0, label)) for label in range(0, 180, 5)]
    error = (avg_pool2d(render(scenes, 128), 4) - render(scenes, 32)).abs()
    # A corner at a pixel's centre gets 1/2, the wedge truly covers its angle / 2 pi: for the
    # star's tips 0.155. Elsewhere the outline is nearly straight within a pixel.
    assert error.max() < 0.5 - 0.15
    assert error.mean() < 0.002


def test_later_shapes_cover_earlier_ones():
    below, above = Shape("square", "red", 0.3, 0.5, 0.5), Shape("circle", "blue", 0.1, 0.5, 0.5)
    centre = render([Scene((below, above))], 32)[0, :, 16, 16]
    torch.testing.assert_close(centre, torch.tensor(COLORS["blue"]))


def test_a_scene_looks_the_same_alone_and_in_a_batch():
    scenes = [sample_scene(class_prompt(label), rng_for(1, label)) for label in range(0, 180, 20)]
    alone = torch.cat([render([scene], 32) for scene in scenes])
    torch.testing.assert_close(render(scenes, 32), alone, rtol=0, atol=1e-6)


def test_empty_scenes_are_white():
    assert torch.equal(render([Scene(()), Scene(())], 8), torch.ones(2, 3, 8, 8))


def test_pictures_are_float32_on_the_device_asked_for():
    scene = Scene((Shape("star", "red", 0.2, 0.5, 0.5),))
    image = render([scene], 16, device="meta")
    assert (image.device.type, image.dtype) == ("meta", torch.float32)


def test_pictures_do_not_follow_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        assert picture("star", 16).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape("unknown", "red", 0.2, 0.5, 0.5), "kind 'unknown' cannot be rendered"),
        (Shape("star", "pink", 0.2, 0.5, 0.5), "color 'pink' is unknown"),
    ],
)
def test_shapes_that_cannot_be_painted_are_refused(shape: Shape, message: str):
    with pytest.raises(ValueError, match=message):
        render([Scene((shape,))], 16)


def test_size_below_one_pixel_is_refused():
    with pytest.raises(ValueError, match="size 0 must be at least 1 pixel"):
        render([Scene(())], 0)

"""Renderer of scenes: signed distances with one pixel of anti-aliasing, painted over white."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from harope.lab.scenes.grammar import COLORS, Scene, Shape
from harope.lab.scenes.sdf import DISTANCES, Distance


def render(
    scenes: Sequence[Scene], size: int, device: torch.device | str | None = None
) -> Float[Tensor, "batch 3 {size} {size}"]:
    """Render scenes on white squares.

    Args:
        scenes: Scenes to render.
        size: Image side in pixels.
        device: Device to render on.

    Returns:
        RGB images in [0, 1], float32.

    Raises:
        ValueError: `size` is less than 1, or the kind or colour of a shape is unknown.
    """
    if size < 1:
        raise ValueError(f"size {size} must be at least 1 pixel")
    shapes = [shape for scene in scenes for shape in scene.shapes]
    alpha = coverage(shapes, size, device)[:, None]
    color = torch.tensor([_rgb(shape) for shape in shapes], dtype=torch.float32, device=device)
    color = color.reshape(len(shapes), 3, 1, 1)
    image = torch.ones(len(scenes), 3, size, size, dtype=torch.float32, device=device)
    for rows, members in _layers(scenes):
        row, member = (torch.tensor(index, device=device) for index in (rows, members))
        image[row] = torch.lerp(image[row], color[member], alpha[member])
    return image


def coverage(
    shapes: Sequence[Shape], size: int, device: torch.device | str | None = None
) -> Float[Tensor, "shapes {size} {size}"]:
    """Return the coverage clamp(1/2 - d, 0, 1) of each pixel by each shape.

    d is the signed distance in pixels from the pixel's centre to the outline of the shape.

    Args:
        shapes: Shapes to render, each on its own.
        size: Image side in pixels.
        device: Device to render on.

    Returns:
        Coverage in [0, 1], float32.

    Raises:
        ValueError: The kind of a shape is unknown.
    """
    out = torch.empty(len(shapes), size, size, dtype=torch.float32, device=device)
    grid = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) / size
    for kind in dict.fromkeys(shape.kind for shape in shapes):
        rows = [row for row, shape in enumerate(shapes) if shape.kind == kind]
        circles = [(shapes[row].x, shapes[row].y, shapes[row].radius) for row in rows]
        table = torch.tensor(circles, dtype=torch.float32, device=device)
        x, y, radius = table[:, :, None, None].unbind(1)
        across, down = torch.broadcast_tensors((grid - x) / radius, (grid[:, None] - y) / radius)
        distance = _distance(kind)(across, down) * radius
        out[torch.tensor(rows, device=device)] = (0.5 - distance * size).clamp(0, 1)
    return out


def _layers(scenes: Sequence[Scene]) -> list[tuple[list[int], list[int]]]:
    """Return for each layer the scenes that have it, and their shapes' indices in the flat list.

    Layer i consists of the i-th shape of every scene that has one.
    """
    counts = [len(scene.shapes) for scene in scenes]
    first = [0, *accumulate(counts)]
    rows = [
        [row for row, count in enumerate(counts) if count > layer]
        for layer in range(max(counts, default=0))
    ]
    return [(row, [first[r] + layer for r in row]) for layer, row in enumerate(rows)]


def _distance(kind: str) -> Distance:
    if kind not in DISTANCES:
        raise ValueError(f"kind {kind!r} cannot be rendered; choose one of {', '.join(DISTANCES)}")
    return DISTANCES[kind]


def _rgb(shape: Shape) -> tuple[float, float, float]:
    if shape.color not in COLORS:
        raise ValueError(f"color {shape.color!r} is unknown; choose one of {', '.join(COLORS)}")
    return COLORS[shape.color]

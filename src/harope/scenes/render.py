"""Pictures of scenes: signed distances, one pixel of anti-aliasing, painted over white."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from harope.scenes.grammar import COLORS, Scene, Shape
from harope.scenes.sdf import DISTANCES


def render(
    scenes: Sequence[Scene], size: int, device: torch.device | str | None = None
) -> Float[Tensor, "batch 3 {size} {size}"]:
    """Paint each scene on a white square of `size` pixels: float32, RGB in [0, 1].

    Coverage of a pixel is clamp(1/2 - distance, 0, 1), with the signed distance in pixels from
    its centre to the shape's outline.

    Raises:
        ValueError: `size` is below 1, or a shape's kind or colour is not known.
    """
    if size < 1:
        raise ValueError(f"size {size} must be at least 1 pixel")
    image = torch.ones(len(scenes), 3, size, size, device=device)
    for layer in range(max((len(scene.shapes) for scene in scenes), default=0)):
        rows = [row for row, scene in enumerate(scenes) if len(scene.shapes) > layer]
        shapes = [scenes[row].shapes[layer] for row in rows]
        color = torch.tensor([_rgb(shape) for shape in shapes], device=device)[:, :, None, None]
        alpha = coverage(shapes, size, device)[:, None]
        index = torch.tensor(rows, device=device)
        image[index] = torch.lerp(image[index], color, alpha)
    return image


def coverage(
    shapes: Sequence[Shape], size: int, device: torch.device | str | None = None
) -> Float[Tensor, "shapes {size} {size}"]:
    """How much of each pixel each shape covers, in [0, 1]."""
    out = torch.empty(len(shapes), size, size, device=device)
    grid = (torch.arange(size, device=device) + 0.5) / size
    for kind in {shape.kind for shape in shapes}:
        rows = [row for row, shape in enumerate(shapes) if shape.kind == kind]
        places = torch.tensor(
            [(shapes[row].x, shapes[row].y, shapes[row].radius) for row in rows], device=device
        )
        x, y, radius = places[:, :, None, None].unbind(1)
        columns, lines = torch.broadcast_tensors((grid - x) / radius, (grid[:, None] - y) / radius)
        distance = _distance(kind)(columns, lines) * radius
        out[torch.tensor(rows, device=device)] = (0.5 - distance * size).clamp(0, 1)
    return out


def _distance(kind: str):
    if kind not in DISTANCES:
        raise ValueError(f"kind {kind!r} cannot be painted: choose one of {', '.join(DISTANCES)}")
    return DISTANCES[kind]


def _rgb(shape: Shape) -> tuple[float, float, float]:
    if shape.color not in COLORS:
        raise ValueError(f"color {shape.color!r} is not known: choose one of {', '.join(COLORS)}")
    return COLORS[shape.color]

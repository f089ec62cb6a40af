"""Signed distance functions of the five kinds of shapes, each with circumscribed radius 1.

Distances are negative inside; y points down. They scale as distance(p; radius) =
radius * distance(p / radius; 1). The formulas fold the plane into one symmetry sector (Quilez, "2D
distance functions").
"""

from collections.abc import Callable
from math import cos, pi, sin, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]

STAR_INNER = 0.52
"""Radius of a star's inner corners: larger than a pentagram's (0.38), to be legible at 8 pixels."""

CROSS_HALF_WIDTH = 0.36
"""Half the width of a cross's arms."""


def circle(x: Float[Tensor, "*grid"], y: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
    """Return the signed distance to the unit circle.

    Args:
        x: Horizontal coordinate of each point.
        y: Vertical coordinate of each point.

    Returns:
        Signed distance of each point.
    """
    return torch.hypot(x, y) - 1


def square(x: Float[Tensor, "*grid"], y: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
    """Return the signed distance to the axis-aligned square with corners on the unit circle.

    Args:
        x: Horizontal coordinate of each point.
        y: Vertical coordinate of each point.

    Returns:
        Signed distance of each point.
    """
    dx, dy = x.abs() - sqrt(0.5), y.abs() - sqrt(0.5)
    outside = torch.hypot(dx.clamp(min=0), dy.clamp(min=0))
    return outside + torch.maximum(dx, dy).clamp(max=0)


def triangle(x: Float[Tensor, "*grid"], y: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
    """Return the signed distance to the equilateral triangle with a tip at the top.

    Args:
        x: Horizontal coordinate of each point.
        y: Vertical coordinate of each point.

    Returns:
        Signed distance of each point.
    """
    return _star_polygon(x, y, points=3, inner=0.5)


def star(x: Float[Tensor, "*grid"], y: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
    """Return the signed distance to the five-pointed star with a tip at the top.

    Args:
        x: Horizontal coordinate of each point.
        y: Vertical coordinate of each point.

    Returns:
        Signed distance of each point.
    """
    return _star_polygon(x, y, points=5, inner=STAR_INNER)


def cross(x: Float[Tensor, "*grid"], y: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
    """Return the signed distance to the upright cross with four equal arms.

    Args:
        x: Horizontal coordinate of each point.
        y: Vertical coordinate of each point.

    Returns:
        Signed distance of each point.
    """
    width, length = CROSS_HALF_WIDTH, sqrt(1 - CROSS_HALF_WIDTH**2)
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    to_end, to_side = long - length, short - width
    nearer = torch.maximum(to_end, to_side)
    outside = torch.hypot(to_end.clamp(min=0), to_side.clamp(min=0))
    inside = torch.hypot((width - long).clamp(min=0), (-nearer).clamp(min=0))
    return torch.where(nearer > 0, outside, -inside)


def _star_polygon(x: Tensor, y: Tensor, points: int, inner: float) -> Tensor:
    """Return the signed distance to a star polygon.

    It has `points` tips at radius 1 and as many inner corners at radius `inner`. All edges fold
    onto the one from the tip (1, 0) to the inner corner inner * (cos, sin)(pi / points).
    """
    sector = 2 * pi / points
    angle = torch.atan2(x, -y)
    angle = (angle - sector * torch.round(angle / sector)).abs()
    length = torch.hypot(x, y)
    px, py = length * torch.cos(angle) - 1, length * torch.sin(angle)
    ex, ey = inner * cos(sector / 2) - 1, inner * sin(sector / 2)
    along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0, 1)
    distance = torch.hypot(px - along * ex, py - along * ey)
    return torch.where(px * ey - py * ex > 0, distance, -distance)


DISTANCES: dict[str, Distance] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "cross": cross,
}
"""Signed distance function of each kind in `harope.lab.scenes.grammar.KINDS`."""

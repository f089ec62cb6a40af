"""Layout of the shapes of a scene: sizes that suit their number, and centres without overlap.

All lengths are fractions of the image side.
"""

from collections.abc import Sequence

from numpy.random import Generator

SIZES: dict[str, float] = {"small": 0.11, "medium": 0.15, "large": 0.20}
"""Radii of the circumscribed circles by name."""

GAP = 0.08
"""Minimum distance between two circumscribed circles: 2.5 pixels in an image of 32 pixels."""

MARGIN = 0.04
"""Minimum distance of a circumscribed circle from the border."""

_NUM_SIZES = {1: 3, 2: 3, 3: 2, 4: 2, 5: 1, 6: 1}  # smallest sizes to choose from, by count
_ATTEMPTS = 32


def sample_radii(count: int, rng: Generator) -> list[float]:
    """Sample random radii from the sizes that leave room for `count` shapes.

    Args:
        count: Number of shapes.
        rng: Random generator.

    Returns:
        Radii as fractions of the image side.
    """
    sizes = list(SIZES.values())[: _NUM_SIZES[count]]
    return [sizes[int(rng.random() * len(sizes))] for _ in range(count)]


def sample_centers(radii: Sequence[float], rng: Generator) -> list[tuple[float, float]]:
    """Sample random centres that respect all gaps and margins.

    Shapes are placed one after the other; if a shape finds no room after `_ATTEMPTS` attempts, the
    placement starts again. It ends with probability one for all radii that `sample_radii` returns.

    Args:
        radii: Radii of the circumscribed circles.
        rng: Random generator.

    Returns:
        Centres (x, y), one per radius.
    """
    centers: list[tuple[float, float]] = []
    while len(centers) < len(radii):
        center = _free_center(radii, centers, rng)
        centers = [*centers, center] if center else []
    return centers


def _free_center(
    radii: Sequence[float], centers: list[tuple[float, float]], rng: Generator
) -> tuple[float, float] | None:
    """Return a centre for the next radius, or None after `_ATTEMPTS` attempts without room."""
    radius = radii[len(centers)]
    low, span = radius + MARGIN, 1 - 2 * (radius + MARGIN)
    placed = [
        (x, y, (radius + other + GAP) ** 2) for (x, y), other in zip(centers, radii, strict=False)
    ]
    for u, v in rng.random((_ATTEMPTS, 2)).tolist():
        px, py = low + span * u, low + span * v
        for x, y, squared_distance in placed:
            if (px - x) * (px - x) + (py - y) * (py - y) < squared_distance:
                break
        else:
            return px, py
    return None

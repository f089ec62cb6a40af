"""Where the shapes of a scene go: sizes that fit their number, and places without overlap.

All lengths are fractions of the picture's side.
"""

from collections.abc import Sequence

from numpy.random import Generator

SIZES: dict[str, float] = {"small": 0.11, "medium": 0.15, "large": 0.20}
"""Radii of the circumscribed circles."""

GAP = 0.08
"""Least distance between two circumscribed circles: 2.5 pixels at 32 px."""

MARGIN = 0.04
"""Least distance from a circumscribed circle to the border."""

_SIZES_FOR_COUNT = {1: 3, 2: 3, 3: 2, 4: 2, 5: 1, 6: 1}
_DRAWS = 32


def sample_radii(count: int, rng: Generator) -> list[float]:
    """`count` radii among the sizes that leave room for that many shapes."""
    sizes = list(SIZES.values())[: _SIZES_FOR_COUNT[count]]
    return [sizes[int(rng.random() * len(sizes))] for _ in range(count)]


def sample_centers(radii: Sequence[float], rng: Generator) -> list[tuple[float, float]]:
    """Centres (x, y) with every gap and margin kept.

    Random sequential placement: a shape that finds no room after some draws restarts the picture,
    so the loop ends with probability one for every list `sample_radii` gives.
    """
    places: list[tuple[float, float]] = []
    while len(places) < len(radii):
        place = _free_place(radii, places, rng)
        places = [*places, place] if place else []
    return places


def _free_place(
    radii: Sequence[float], places: list[tuple[float, float]], rng: Generator
) -> tuple[float, float] | None:
    """A place for the next radius in the list, or None when none was found."""
    radius = radii[len(places)]
    low, span = radius + MARGIN, 1 - 2 * (radius + MARGIN)
    taken = [
        (x, y, (radius + other + GAP) ** 2) for (x, y), other in zip(places, radii, strict=False)
    ]
    for u, v in rng.random((_DRAWS, 2)).tolist():
        px, py = low + span * u, low + span * v
        for x, y, reach in taken:
            if (px - x) * (px - x) + (py - y) * (py - y) < reach:
                break
        else:
            return px, py
    return None

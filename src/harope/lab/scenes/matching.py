"""Template matching: kind, position and size of the shape that an opacity map shows."""

from dataclasses import dataclass
from math import pi, sin, sqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from harope.lab.scenes.grammar import KINDS
from harope.lab.scenes.sdf import CROSS_HALF_WIDTH, DISTANCES, STAR_INNER

UNIT_AREAS = {
    "circle": pi,
    "square": 2.0,
    "triangle": 3 * sqrt(3) / 4,
    "star": 5 * STAR_INNER * sin(pi / 5),
    "cross": 4 * CROSS_HALF_WIDTH * (2 * sqrt(1 - CROSS_HALF_WIDTH**2) - CROSS_HALF_WIDTH),
}
"""Area of each kind with circumscribed radius 1."""

_SCALES = tuple(0.76 + 0.035 * step for step in range(9))  # mostly < 1: blur enlarges a part
_SHIFTS = (-0.4, 0.0, 0.4)  # pixels
_BLUR = (0.0545, 0.2442, 0.4026, 0.2442, 0.0545)  # Gaussian, standard deviation of one pixel


@dataclass(frozen=True)
class Match:
    """Best matching shape of an opacity map, with lengths in pixels of its window."""

    kind: str
    """One of `KINDS`."""
    radius: float
    """Radius of the circumscribed circle."""
    x: float
    """Centre, from left to right."""
    y: float
    """Centre, from top to bottom."""
    quality: float
    """Cosine similarity of map and template: 1 if they are equal up to a factor."""


def match_shape(alpha: Float[Tensor, "height width"]) -> Match:
    """Find the shape whose template is most similar to an opacity map.

    For each kind, first the radius is refined with the centre at the map's centroid, then the
    centre. The centroid is the centre of every kind, and the mass determines the radius up to blur.

    Args:
        alpha: Opacity in [0, 1] of each pixel in a window of the image.

    Returns:
        The best shape of all kinds, with its similarity.
    """
    down, across = (torch.arange(length) + 0.5 for length in alpha.shape)
    mass = alpha.sum().clamp(min=1)
    x = float((alpha.sum(0) * across).sum() / mass)
    y = float((alpha.sum(1) * down).sum() / mass)
    radii = [sqrt(float(mass) / UNIT_AREAS[kind]) for kind in KINDS]
    sized = _best_trials(alpha, [[(r * s, x, y) for s in _SCALES] for r in radii])
    trials = [[(m.radius, x + dx, y + dy) for dx in _SHIFTS for dy in _SHIFTS] for m in sized]
    return max(_best_trials(alpha, trials), key=lambda match: match.quality)


def _best_trials(alpha: Tensor, trials: list[list[tuple[float, float, float]]]) -> list[Match]:
    """Return the best match of each kind among its trials (radius, x, y)."""
    radii, xs, ys = torch.tensor(trials)[..., None, None].unbind(2)
    across = (torch.arange(alpha.shape[1]) + 0.5 - xs) / radii
    down = (torch.arange(alpha.shape[0])[:, None] + 0.5 - ys) / radii
    points = zip(KINDS, *torch.broadcast_tensors(across, down), strict=True)
    distance = torch.stack([DISTANCES[kind](u, v) for kind, u, v in points]) * radii
    sharp = (0.5 - distance).clamp(0, 1)
    templates = torch.cat((sharp, _blur(sharp)), 1)
    cosine = torch.cosine_similarity(templates.flatten(2), alpha.flatten(), dim=-1)
    top, index = cosine.max(1)
    best = [trial[i % len(trial)] for trial, i in zip(trials, index.tolist(), strict=True)]
    return [
        Match(kind, radius, x, y, quality)
        for kind, (radius, x, y), quality in zip(KINDS, best, top.tolist(), strict=True)
    ]


def _blur(images: Tensor) -> Tensor:
    kernel = torch.tensor(_BLUR)
    half = len(_BLUR) // 2
    rows = conv2d(images.flatten(0, 1)[:, None], kernel[None, None, None], padding=(0, half))
    return conv2d(rows, kernel[:, None][None, None], padding=(half, 0)).reshape(images.shape)

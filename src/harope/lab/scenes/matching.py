"""Which of the five kinds an opacity map shows, where, and how large."""

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
"""Area of each kind at circumscribed radius 1."""

_SCALES = tuple(0.76 + 0.035 * step for step in range(9))  # blur makes a part look larger
_SHIFTS = (-0.4, 0.0, 0.4)  # pixels
_BLUR = (0.0545, 0.2442, 0.4026, 0.2442, 0.0545)  # Gaussian of one pixel


@dataclass(frozen=True)
class Match:
    """The best shape for an opacity map, in pixels of the window."""

    kind: str
    radius: float
    x: float
    y: float
    quality: float
    """Cosine of map and template: 1 where they agree up to a factor."""


def match_shape(alpha: Float[Tensor, "height width"]) -> Match:
    """Best of all kinds: first the radius about the map's centroid, then the centre.

    The centroid is the centre of every kind, and the mass gives the radius up to blur.
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
    """The best (radius, x, y) of each kind."""
    radii, xs, ys = torch.tensor(trials)[..., None, None].unbind(2)
    across = (torch.arange(alpha.shape[1]) + 0.5 - xs) / radii
    down = (torch.arange(alpha.shape[0])[:, None] + 0.5 - ys) / radii
    points = zip(KINDS, *torch.broadcast_tensors(across, down), strict=True)
    distance = torch.stack([DISTANCES[kind](u, v) for kind, u, v in points]) * radii
    crisp = (0.5 - distance).clamp(0, 1)
    templates = torch.cat((crisp, _blur(crisp)), 1)
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
    wide = conv2d(images.flatten(0, 1)[:, None], kernel[None, None, None], padding=(0, half))
    return conv2d(wide, kernel[:, None][None, None], padding=(half, 0)).reshape(images.shape)

"""From a picture to its parts: one-coloured regions that stand out from a light background."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float

from harope.lab.scenes.grammar import COLORS

SPECK_AREA = 0.004
"""Parts below this share of the picture are ignored: a quarter of the smallest drawn shape."""

_PALETTE = np.array(list(COLORS.values()), dtype=np.float32)
_NAMES = tuple(COLORS)
_TOUCHING = np.ones((3, 3), dtype=bool)

# Lengths are fractions of the side, colours are RGB distances.
_SMOOTHING = 0.02
_REACH = 0.1  # how far a part's own pixels may lie outside its smoothed region
_SEAM = 0.035  # half the greatest width of a seam where two colours mix
_DISTINCT = 0.35  # from here on two touching colours are two shapes
_MOST_NOISE = 0.2  # share of a part's energy that may be put down to noise
_FAINT = 0.25  # the background's opacity stays below
_OFF_WHITE = 0.4  # a median colour further from white than this is no background


@dataclass(frozen=True)
class Part:
    """One region: its colour's name and its opacity in a window of the picture."""

    color: str
    alpha: Float[np.ndarray, "height width"]
    """About 0 outside the region and 1 inside."""
    top: int
    left: int
    clarity: float
    """Cosine of the map with a perfect template, as far as the background's noise allows."""


def find_parts(image: Float[np.ndarray, "size size 3"]) -> list[Part]:
    """Parts of a float32 RGB picture in [0, 1], specks left out.

    A picture that is not at least half background, such as mere noise, has none.
    """
    from scipy import ndimage

    size = len(image)
    smooth = ndimage.gaussian_filter(image, (_SMOOTHING * size, _SMOOTHING * size, 0))
    background = _background(smooth)
    opacity, color = _unmix(smooth - background, background)
    if np.mean(opacity < _FAINT) < 0.5:
        return []
    regions, _ = ndimage.label(opacity > 0.5, _TOUCHING)
    large = np.bincount(regions.ravel())[1:] >= SPECK_AREA * size**2
    found = [regions == label + 1 for label in large.nonzero()[0]]
    masks = [mask for region in found for mask in _split_by_color(region, color, smooth)]
    if not masks:
        return []
    territories = _territories(masks, regions > 0)
    empty = (regions == 0) & ~np.any(territories, axis=0)
    cores = [mask & (opacity > 0.8 * opacity[mask].max()) for mask in masks]
    tints = np.stack([smooth[core].mean(0) for core in cores]) - background
    _, names = _unmix(tints, background)
    return [
        _part(_NAMES[name], (image - background) @ tint / (tint @ tint), own, empty)
        for name, tint, own in zip(names, tints, territories, strict=True)
    ]


def _background(smooth: np.ndarray) -> np.ndarray:
    """The median colour where it is near white, else white."""
    white = np.ones(3, dtype=np.float32)
    median = np.median(smooth.reshape(-1, 3), axis=0)
    return median if np.linalg.norm(median - white) < _OFF_WHITE else white


def _unmix(offset: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Opacity and palette index of the tint that explains each offset from the background best.

    A pixel of opacity a is background + a (colour - background), so a tint is a direction.
    """
    tints = _PALETTE - background
    opacity = (offset @ tints.T / (tints**2).sum(1)).clip(0, 1)
    misfit = ((offset[..., None, :] - opacity[..., None] * tints) ** 2).sum(-1)
    best = misfit.argmin(-1)
    return np.take_along_axis(opacity, best[..., None], -1)[..., 0], best


def _split_by_color(region: np.ndarray, color: np.ndarray, smooth: np.ndarray) -> list[np.ndarray]:
    """The region's pieces of clearly different colours, or the region itself."""
    from scipy import ndimage

    pieces = []
    for index in np.unique(color[region]):
        labels, count = ndimage.label(region & (color == index), _TOUCHING)
        pieces += [labels == label for label in range(1, count + 1)]
    pieces = [piece for piece in pieces if _is_solid(piece)]
    means = np.array([smooth[piece].mean(0) for piece in pieces]).reshape(-1, 3)
    spread = np.linalg.norm(means[:, None] - means, axis=-1)
    return pieces if spread.size and spread.max() > _DISTINCT else [region]


def _is_solid(piece: np.ndarray) -> bool:
    """Whether the piece is more than a speck or the seam between two colours."""
    from scipy import ndimage

    if piece.mean() < SPECK_AREA:
        return False
    return bool(ndimage.distance_transform_edt(piece).max() > _SEAM * len(piece))


def _territories(masks: list[np.ndarray], foreground: np.ndarray) -> list[np.ndarray]:
    """For each mask the pixels within reach that lie nearer to it than to any other region."""
    from scipy import ndimage

    owner = np.where(foreground, -1, 0)
    for number, mask in enumerate(masks, start=1):
        owner[mask] = number
    distance, (rows, columns) = ndimage.distance_transform_edt(owner == 0, return_indices=True)
    nearest = np.where(distance <= _REACH * len(owner), owner[rows, columns], 0)
    return [nearest == number for number in range(1, len(masks) + 1)]


def _part(color: str, alpha: np.ndarray, own: np.ndarray, empty: np.ndarray) -> Part:
    """The part's own window of a map of opacity; `empty` is where only noise is left."""
    from scipy import ndimage

    noise = np.mean(alpha[empty] ** 2) / np.mean(alpha[own] ** 2) if empty.any() else 0
    window = ndimage.find_objects(own.astype(np.uint8))[0]
    return Part(
        color=color,
        alpha=np.where(own, alpha, 0)[window],
        top=window[0].start,
        left=window[1].start,
        clarity=sqrt(1 - min(noise, _MOST_NOISE)),
    )

"""Segmentation of an image into parts: regions of one colour on a light background."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float

from harope.lab.scenes.grammar import COLORS

SPECK_AREA = 0.004
"""Parts below this fraction of the image area are ignored: a quarter of the smallest shape of a
sampled scene."""

_PALETTE = np.array(list(COLORS.values()), dtype=np.float32)
_NAMES = tuple(COLORS)
_TOUCHING = np.ones((3, 3), dtype=bool)

# Lengths are fractions of the image side, colour differences are RGB distances.
_SMOOTHING = 0.02  # standard deviation of the Gaussian filter
_REACH = 0.1  # largest distance of a part's pixels from its smoothed region
_SEAM = 0.035  # half the largest width of a seam where two colours mix
_DISTINCT = 0.35  # smallest difference of touching colours that makes two shapes
_MOST_NOISE = 0.2  # largest fraction of a part's energy that is attributed to noise
_FAINT = 0.25  # largest opacity of the background
_OFF_WHITE = 0.4  # largest distance of the background's colour from white


@dataclass(frozen=True)
class Part:
    """Region of one colour, with its opacity in a window of the image."""

    color: str
    """Name of the colour, a key of `COLORS`."""
    alpha: Float[np.ndarray, "height width"]
    """Opacity map: about 0 outside the region and 1 inside."""
    top: int
    """First row of the window."""
    left: int
    """First column of the window."""
    clarity: float
    """Highest cosine similarity with a template that the noise of the background allows."""


def find_parts(image: Float[np.ndarray, "size size 3"]) -> list[Part]:
    """Segment an image into parts, ignoring specks.

    Args:
        image: RGB image in [0, 1], float32.

    Returns:
        Parts; none if less than half of the image is background, as in pure noise.
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
    candidates = [regions == label + 1 for label in large.nonzero()[0]]
    masks = [mask for region in candidates for mask in _split_by_color(region, color, smooth)]
    if not masks:
        return []
    territories = _territories(masks, regions > 0)
    empty = (regions == 0) & ~np.any(territories, axis=0)
    cores = [mask & (opacity > 0.8 * opacity[mask].max()) for mask in masks]
    tints = np.stack([smooth[core].mean(0) for core in cores]) - background
    _, names = _unmix(tints, background)
    return [
        _part(_NAMES[name], (image - background) @ tint / (tint @ tint), territory, empty)
        for name, tint, territory in zip(names, tints, territories, strict=True)
    ]


def _background(smooth: np.ndarray) -> np.ndarray:
    """Return the median colour if it is close to white, otherwise white."""
    white = np.ones(3, dtype=np.float32)
    median = np.median(smooth.reshape(-1, 3), axis=0)
    return median if np.linalg.norm(median - white) < _OFF_WHITE else white


def _unmix(offset: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return opacity and palette index of the tint closest to each offset from the background.

    A pixel of opacity a is background + a (colour - background), so a tint is a direction in RGB.
    """
    tints = _PALETTE - background
    opacity = (offset @ tints.T / (tints**2).sum(1)).clip(0, 1)
    misfit = ((offset[..., None, :] - opacity[..., None] * tints) ** 2).sum(-1)
    best = misfit.argmin(-1)
    return np.take_along_axis(opacity, best[..., None], -1)[..., 0], best


def _split_by_color(region: np.ndarray, color: np.ndarray, smooth: np.ndarray) -> list[np.ndarray]:
    """Return the pieces of a region with clearly different colours, or the region itself."""
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
    """Return whether a piece is more than a speck or a seam between two colours."""
    from scipy import ndimage

    if piece.mean() < SPECK_AREA:
        return False
    return bool(ndimage.distance_transform_edt(piece).max() > _SEAM * len(piece))


def _territories(masks: list[np.ndarray], foreground: np.ndarray) -> list[np.ndarray]:
    """Return for each mask the pixels within reach that are closer to it than to other regions."""
    from scipy import ndimage

    owner = np.where(foreground, -1, 0)
    for number, mask in enumerate(masks, start=1):
        owner[mask] = number
    distance, (rows, columns) = ndimage.distance_transform_edt(owner == 0, return_indices=True)
    nearest = np.where(distance <= _REACH * len(owner), owner[rows, columns], 0)
    return [nearest == number for number in range(1, len(masks) + 1)]


def _part(color: str, alpha: np.ndarray, territory: np.ndarray, empty: np.ndarray) -> Part:
    """Cut a part's territory out of an opacity map, which is only noise where `empty`."""
    from scipy import ndimage

    noise = np.mean(alpha[empty] ** 2) / np.mean(alpha[territory] ** 2) if empty.any() else 0
    window = ndimage.find_objects(territory.astype(np.uint8))[0]
    return Part(
        color=color,
        alpha=np.where(territory, alpha, 0)[window],
        top=window[0].start,
        left=window[1].start,
        clarity=sqrt(1 - min(noise, _MOST_NOISE)),
    )

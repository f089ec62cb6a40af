"""Precision, recall, density and coverage: balls around features, in blocks.

Distances are Euclidean, in the features' unit, and squared and compared in float64. What is held
is a block of rows against a block of columns: about 200 MB beside 2,048 features of any number of
images.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

ROWS, COLUMNS = 1024, 4096


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density is at least 0 and may pass 1; coverage is a share in [0, 1]."""

    density: float
    coverage: float


def precision_recall(
    samples: Float[np.ndarray, "samples dim"],
    reference: Float[np.ndarray, "reference dim"],
    *,
    k: int = 3,
) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, equations 1-3).

    f(φ, Φ) = 1 where |φ - φ'| <= |φ' - NN_k(φ', Φ)| for some φ' of Φ; precision is the mean of
    f(sample, reference), recall of f(reference image, samples). NN_k is the k-th neighbour, itself
    not counted. ADM takes Inception's features, k = 3, 10,000 reference images.

    Raises ValueError for at most k features on a side, or different numbers of features.
    """
    _check(samples, reference, k)
    return PrecisionRecall(
        _inside(samples, reference, radii(reference, k), np.less_equal).astype(bool).mean().item(),
        _inside(reference, samples, radii(samples, k), np.less_equal).astype(bool).mean().item(),
    )


def density_coverage(
    samples: Float[np.ndarray, "samples dim"],
    reference: Float[np.ndarray, "reference dim"],
    *,
    k: int = 5,
) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, arXiv 2002.09797, equations 3 and 4).

    density = Σ_j Σ_i 1[sample j in ball of reference i] / (k samples); coverage = the mean over
    reference images of 1[some sample lies in its ball]. A ball reaches to the k-th neighbour among
    the reference, and is open as in the authors' code: a set against itself has density 1.

    Raises ValueError for at most k reference features, or different numbers of features.
    """
    _check(samples, reference, k, both=False)
    reach = radii(reference, k)
    density = _inside(samples, reference, reach, np.less).mean().item() / k
    return DensityCoverage(density, (_nearest(reference, samples, 1) < reach).mean().item())


def radii(features: Float[np.ndarray, "count dim"], k: int) -> Float64[np.ndarray, " count"]:
    """Squared distance of each feature to its k-th neighbour, itself not counted."""
    return _nearest(features, features, k + 1)


def check_neighbours(count: int, k: int) -> None:
    """Raise ValueError where there is no k-th neighbour."""
    if count <= k:
        raise ValueError(f"{count} images have no neighbour {k}: give at least {k + 1}")


def _nearest(
    points: Float[np.ndarray, "points dim"], others: Float[np.ndarray, "others dim"], rank: int
) -> Float64[np.ndarray, " points"]:
    """Squared distance of each point to the `rank`-th nearest of the others."""
    found = np.empty(len(points))
    for rows in _blocks(len(points), ROWS):
        kept = np.full((len(points[rows]), 0), 0.0)
        for columns in _blocks(len(others), COLUMNS):
            both = np.concatenate([kept, _squared(points[rows], others[columns])], axis=1)
            kept = np.partition(both, min(rank, both.shape[1]) - 1, axis=1)[:, :rank]
        found[rows] = kept.max(axis=1)
    return found


def _inside(
    points: Float[np.ndarray, "points dim"],
    centres: Float[np.ndarray, "centres dim"],
    reach: Float64[np.ndarray, " centres"],
    compare: np.ufunc,
) -> Int64[np.ndarray, " points"]:
    """In how many balls of squared radius `reach`, open or closed, each point lies."""
    counts = np.zeros(len(points), np.int64)
    for rows in _blocks(len(points), ROWS):
        for columns in _blocks(len(centres), COLUMNS):
            within = compare(_squared(points[rows], centres[columns]), reach[columns])
            counts[rows] += within.sum(axis=1)
    return counts


def _squared(
    a: Float[np.ndarray, "rows dim"], b: Float[np.ndarray, "columns dim"]
) -> Float64[np.ndarray, "rows columns"]:
    """|a|² + |b|² - 2 a·b; what rounding alone can leave between equal features is 0."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)
    squared = a @ b.T
    squared *= -2
    squared += scale
    squared[squared < 1e-13 * scale] = 0
    return squared


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def _check(
    samples: Float[np.ndarray, "samples dim"],
    reference: Float[np.ndarray, "reference dim"],
    k: int,
    both: bool = True,
) -> None:
    if samples.shape[1] != reference.shape[1]:
        raise ValueError(
            f"{samples.shape[1]} features against {reference.shape[1]}: both sides need one "
            "extractor"
        )
    if k < 1:
        raise ValueError(f"k {k} must be at least 1")
    check_neighbours(len(reference), k)
    if both:
        check_neighbours(len(samples), k)

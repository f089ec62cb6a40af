"""Precision, recall, density and coverage, from k-nearest-neighbour balls around features.

Distances are Euclidean and are compared as squares in float64. They are computed in blocks of rows
and columns, which take about 200 MB for 2,048 features and any number of images.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

ROWS, COLUMNS = 1024, 4096
"""Size of a block of distances."""


class PrecisionRecall(NamedTuple):
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991)."""

    precision: float
    """Fraction of samples within the manifold of the reference, in [0, 1]."""
    recall: float
    """Fraction of reference images within the manifold of the samples, in [0, 1]."""


class DensityCoverage(NamedTuple):
    """Density and coverage (Naeem et al. 2020, arXiv 2002.09797)."""

    density: float
    """Mean number of reference balls that contain a sample, over k; at least 0, may exceed 1."""
    coverage: float
    """Fraction of reference balls that contain a sample, in [0, 1]."""


def precision_recall(
    samples: Float[np.ndarray, "samples dim"],
    reference: Float[np.ndarray, "reference dim"],
    *,
    k: int = 3,
) -> PrecisionRecall:
    """Compute improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 1-3).

    f(φ, Φ) = 1 if |φ - φ'| <= |φ' - NN_k(φ', Φ)| for some φ' of Φ, else 0. Precision is the mean
    of f(sample, reference) and recall that of f(reference image, samples). NN_k is the k-th nearest
    neighbour, not counting the feature itself. ADM uses Inception's features, k = 3 and 10,000
    reference images. Its evaluator computes distances in float16, so that its values differ from
    these by up to 0.003.

    Args:
        samples: Features of the samples.
        reference: Features of the reference images.
        k: Number of neighbours within a ball.

    Returns:
        Precision and recall.

    Raises:
        ValueError: If a side has at most k images, or the numbers of features differ.
    """
    _check(samples, reference, k)
    precision = _count_balls(samples, reference, radii(reference, k), np.less_equal).astype(bool)
    recall = _count_balls(reference, samples, radii(samples, k), np.less_equal).astype(bool)
    return PrecisionRecall(precision.mean().item(), recall.mean().item())


def density_coverage(
    samples: Float[np.ndarray, "samples dim"],
    reference: Float[np.ndarray, "reference dim"],
    *,
    k: int = 5,
) -> DensityCoverage:
    """Compute density and coverage (Naeem et al. 2020, arXiv 2002.09797, equations 3 and 4).

    density = Σ_j Σ_i 1[sample j in ball of reference i] / (k samples); coverage is the mean over
    the reference images of 1[a sample lies in the ball]. The radius of a ball is the distance to
    the k-th neighbour among the reference. As in the authors' code the balls are open, so that a
    set against itself has density 1.

    Args:
        samples: Features of the samples.
        reference: Features of the reference images.
        k: Number of neighbours within a ball.

    Returns:
        Density and coverage.

    Raises:
        ValueError: If there are at most k reference images, or the numbers of features differ.
    """
    _check(samples, reference, k, both=False)
    squared_radii = radii(reference, k)
    density = _count_balls(samples, reference, squared_radii, np.less).mean().item() / k
    covered = _nearest_distances(reference, samples, 1) < squared_radii
    return DensityCoverage(density, covered.mean().item())


def radii(features: Float[np.ndarray, "count dim"], k: int) -> Float64[np.ndarray, " count"]:
    """Compute the squared distance of each feature to its k-th neighbour, not counting itself.

    Args:
        features: Features of an image set.
        k: Number of the neighbour, from 1.

    Returns:
        Squared radius of the ball around each feature.
    """
    return _nearest_distances(features, features, k + 1)


def check_neighbours(count: int, k: int) -> None:
    """Check that each image has a k-th neighbour.

    Args:
        count: Number of images.
        k: Number of the neighbour, from 1.

    Raises:
        ValueError: If there are at most k images.
    """
    if count <= k:
        raise ValueError(f"{count} images have no neighbour {k}: give at least {k + 1}")


def _nearest_distances(
    points: Float[np.ndarray, "points dim"], others: Float[np.ndarray, "others dim"], rank: int
) -> Float64[np.ndarray, " points"]:
    """Compute the squared distance of each point to the `rank`-th nearest of the others."""
    distances = np.empty(len(points))
    for rows in _blocks(len(points), ROWS):
        nearest = np.full((len(points[rows]), 0), 0.0)
        for columns in _blocks(len(others), COLUMNS):
            block = _squared_distances(points[rows], others[columns])
            candidates = np.concatenate([nearest, block], axis=1)
            last = min(rank, candidates.shape[1]) - 1
            nearest = np.partition(candidates, last, axis=1)[:, :rank]
        distances[rows] = nearest.max(axis=1)
    return distances


def _count_balls(
    points: Float[np.ndarray, "points dim"],
    centres: Float[np.ndarray, "centres dim"],
    squared_radii: Float64[np.ndarray, " centres"],
    compare: np.ufunc,
) -> Int64[np.ndarray, " points"]:
    """Count the balls around `centres` that contain each point.

    `compare` is `np.less` for open balls or `np.less_equal` for closed ones.
    """
    counts = np.zeros(len(points), np.int64)
    for rows in _blocks(len(points), ROWS):
        for columns in _blocks(len(centres), COLUMNS):
            block = _squared_distances(points[rows], centres[columns])
            counts[rows] += compare(block, squared_radii[columns]).sum(axis=1)
    return counts


def _squared_distances(
    a: Float[np.ndarray, "rows dim"], b: Float[np.ndarray, "columns dim"]
) -> Float64[np.ndarray, "rows columns"]:
    """Compute |a|² + |b|² - 2 a·b; values within the rounding error of equal features become 0."""
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
            f"{samples.shape[1]} features against {reference.shape[1]}: use one extractor for both"
        )
    if k < 1:
        raise ValueError(f"k {k} must be at least 1")
    check_neighbours(len(reference), k)
    if both:
        check_neighbours(len(samples), k)

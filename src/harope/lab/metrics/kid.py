"""The kernel distance (KID), and statistics of a metric over subsets of images."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64


class SubsetStatistics(NamedTuple):
    """Mean and standard deviation of a metric over subsets of one image set."""

    mean: float
    """Mean over the subsets."""
    std: float
    """Population standard deviation over the subsets: the sum of squares divided by `parts`."""
    parts: int
    """Number of subsets."""

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; NaN for a single subset."""
        return self.std / math.sqrt(self.parts - 1) if self.parts > 1 else math.nan

    @classmethod
    def of(cls, scores: list[float]) -> "SubsetStatistics":
        """Summarise the scores of all subsets.

        Args:
            scores: Score of each subset.

        Returns:
            Mean and standard deviation of the scores.
        """
        return cls(float(np.mean(scores)), float(np.std(scores)), len(scores))


def kernel_distance(
    samples: Float[np.ndarray, "samples dim"],
    reference: Float[np.ndarray, "reference dim"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
) -> SubsetStatistics:
    """Compute the unbiased squared MMD over random subsets; on Inception's features it is the KID.

    With k(x, y) = (x·y / dim + 1)³ and subsets X, Y of m features each,

        MMD² = (Σ_{i≠j} k(x_i, x_j) + Σ_{i≠j} k(y_i, y_j)) / (m (m - 1))
               - 2 Σ_{i,j} k(x_i, y_j) / m²

    Source: Bińkowski et al. 2018 (arXiv 1801.01401), section 3; Gretton et al. 2012, equation 3.
    The subsets are those of torch-fidelity with the same seed.

    Args:
        samples: Features of the samples.
        reference: Features of the reference images.
        subsets: Number of random subsets.
        subset_size: Images in each subset, m.
        seed: Seed of the subsets; torch-fidelity's default.

    Returns:
        Statistics of the MMD², which has no unit and may be slightly negative. The standard error
        is that of the random subsets, not that of drawing other samples.

    Raises:
        ValueError: If a side has fewer than `subset_size` images, or the numbers of features
            differ.
    """
    if samples.shape[1] != reference.shape[1]:
        raise ValueError(
            f"{samples.shape[1]} features against {reference.shape[1]}: use one extractor for both"
        )
    check_subsets(len(samples), len(reference), subset_size)
    if subsets < 1:
        raise ValueError(f"subsets {subsets} must be at least 1")
    rng = np.random.RandomState(seed)
    scores = []
    for _ in range(subsets):
        x = samples[rng.choice(len(samples), subset_size, replace=False)]
        y = reference[rng.choice(len(reference), subset_size, replace=False)]
        scores.append(_mmd2(x.astype(np.float64), y.astype(np.float64)))
    return SubsetStatistics.of(scores)


def check_subsets(samples: int, reference: int, subset_size: int) -> None:
    """Check that both sides are large enough for the subsets.

    Args:
        samples: Number of samples.
        reference: Number of reference images.
        subset_size: Images in each subset.

    Raises:
        ValueError: Unless 2 <= subset_size <= min(samples, reference).
    """
    if not 2 <= subset_size <= min(samples, reference):
        raise ValueError(
            f"subset_size {subset_size} must lie in 2 .. {min(samples, reference)}: there are "
            f"{samples} samples and {reference} reference images"
        )


def _mmd2(x: Float64[np.ndarray, "size dim"], y: Float64[np.ndarray, "size dim"]) -> float:
    size = len(x)
    within = sum(k.sum() - np.trace(k) for k in (_kernel(x, x), _kernel(y, y)))
    return float(within / (size * (size - 1)) - 2 * _kernel(x, y).mean())


def _kernel(
    x: Float64[np.ndarray, "size dim"], y: Float64[np.ndarray, "size dim"]
) -> Float64[np.ndarray, "size size"]:
    return (x @ y.T / x.shape[1] + 1) ** 3

"""The kernel distance, and a score with its spread."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64


class Spread(NamedTuple):
    """Scores of several parts of one set."""

    mean: float
    std: float
    """Standard deviation over the parts, divided by their number, not one less."""
    parts: int

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN for a single part."""
        return self.std / math.sqrt(self.parts - 1) if self.parts > 1 else math.nan

    @classmethod
    def of(cls, scores: list[float]) -> "Spread":
        """Mean and deviation of the scores."""
        return cls(float(np.mean(scores)), float(np.std(scores)), len(scores))


def kernel_distance(
    samples: Float[np.ndarray, "samples dim"],
    reference: Float[np.ndarray, "reference dim"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
) -> Spread:
    """Squared maximum mean discrepancy, unbiased, over random subsets: KID on Inception's features.

    k(x, y) = (x·y / dim + 1)³, and for subsets X, Y of m features each
    MMD² = (Σ_{i≠j} k(x_i, x_j) + Σ_{i≠j} k(y_i, y_j)) / (m (m - 1)) - 2 Σ_{i,j} k(x_i, y_j) / m²
    (Bińkowski et al. 2018, arXiv 1801.01401, section 3; Gretton et al. 2012, equation 3). It has
    no unit and may be slightly negative. Subsets are drawn as by torch-fidelity, whose default
    seed this is. Their standard error says how far the drawing matters, not how far another
    set of samples would.

    Raises ValueError where a side has fewer than `subset_size` features, or other features.
    """
    if samples.shape[1] != reference.shape[1]:
        raise ValueError(
            f"{samples.shape[1]} features against {reference.shape[1]}: both sides need one "
            "extractor"
        )
    check_subsets(len(samples), len(reference), subset_size)
    if subsets < 1:
        raise ValueError(f"subsets {subsets} must be at least 1")
    draws = np.random.RandomState(seed)
    scores = []
    for _ in range(subsets):
        x = samples[draws.choice(len(samples), subset_size, replace=False)]
        y = reference[draws.choice(len(reference), subset_size, replace=False)]
        scores.append(_mmd2(x.astype(np.float64), y.astype(np.float64)))
    return Spread.of(scores)


def check_subsets(samples: int, reference: int, subset_size: int) -> None:
    """Raise ValueError unless subsets of that size can be drawn from both sides."""
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

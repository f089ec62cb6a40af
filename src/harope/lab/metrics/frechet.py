"""The Fréchet distance between normal distributions."""

import warnings

import numpy as np
from jaxtyping import Float64

from harope.lab.metrics.gaussian import Gaussian


class SingularCovarianceWarning(UserWarning):
    """Warning that there are no more samples than features, so the distance is biased upwards."""


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Compute the squared Fréchet distance; on Inception's features it is the FID.

        d² = |μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½)

    Source: Dowson and Landau 1982, equation 4; Heusel et al. 2017 (arXiv 1706.08500), equation 6.
    Unit: that of the features, squared. tr (Σ_a Σ_b)^½ is computed as the sum of the singular
    values of Σ_a^½ Σ_b^½. It is real and accurate for singular covariances too, so no multiple of
    the identity is added to them, which the usual square root of the product needs.

    Warns with SingularCovarianceWarning if there are no more samples than features.

    Args:
        a: Distribution of one set of features.
        b: Distribution of the other set.

    Returns:
        The squared distance, at least 0.

    Raises:
        ValueError: If the numbers of features differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"{a.mean.shape[0]} features against {b.mean.shape[0]}: use one extractor for both"
        )
    for side in (a, b):
        _warn_if_singular(side)
    overlap = np.linalg.svd(_root(a.covariance) @ _root(b.covariance), compute_uv=False).sum()
    shift = a.mean - b.mean
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap
    # Rounding can make the distance of equal distributions slightly negative.
    return max(float(shift @ shift + spread), 0.0)


def _root(covariance: Float64[np.ndarray, "dim dim"]) -> Float64[np.ndarray, "dim dim"]:
    """Return the symmetric square root, with eigenvalues that rounding made negative set to 0."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def _warn_if_singular(side: Gaussian) -> None:
    dim = side.mean.shape[0]
    if side.count is not None and side.count <= dim:
        warnings.warn(
            f"{side.count} samples are no more than the {dim} features, so their covariance is "
            "singular and the distance is biased upwards: compare only distances with equal "
            "numbers of samples",
            SingularCovarianceWarning,
            stacklevel=3,
        )

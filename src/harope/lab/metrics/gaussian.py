"""Mean and covariance of features, accumulated over batches and merged over processes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution fitted to features.

    Raises:
        ValueError: If the shapes do not fit or a value is not finite.
    """

    mean: Float64[np.ndarray, " dim"]
    """Mean of the features."""
    covariance: Float64[np.ndarray, "dim dim"]
    """Covariance of the features."""
    count: int | None = None
    """Number of images it was fitted to; None if unknown."""

    def __post_init__(self) -> None:
        dim = self.mean.shape[0] if self.mean.ndim == 1 else -1
        if self.covariance.shape != (dim, dim):
            raise ValueError(
                f"mean has shape {self.mean.shape} and covariance {self.covariance.shape}: they "
                "must be (dim,) and (dim, dim)"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise ValueError("mean or covariance holds NaN or infinity: compute the features again")


class Moments:
    """Running count, mean and scatter S = Σ (x - mean)(x - mean)^T of features, in float64.

    Parts are merged by the update of Chan, Golub and LeVeque (1983): with n = n_a + n_b and
    d = mean_b - mean_a, S = S_a + S_b + (n_a n_b / n) d d^T. Unlike Σ x x^T - n mean mean^T, it
    does not cancel for features far from the origin.

    Args:
        dim: Number of features.
    """

    def __init__(self, dim: int):
        self.count = 0
        self.mean: Float64[np.ndarray, " dim"] = np.zeros(dim)
        self.scatter: Float64[np.ndarray, "dim dim"] = np.zeros((dim, dim))

    @classmethod
    def of(cls, features: Float[np.ndarray, "count dim"], block: int = 4096) -> "Moments":
        """Compute the moments of an array of features.

        Args:
            features: Features of each image.
            block: Rows that are converted to float64 at once.

        Returns:
            The moments of all rows.
        """
        moments = cls(features.shape[1])
        for first in range(0, len(features), block):
            moments.update(features[first : first + block])
        return moments

    def update(self, features: Float[np.ndarray, "batch dim"]) -> None:
        """Add a batch of features.

        Args:
            features: Features of one or more images.
        """
        rows = features.astype(np.float64)
        mean = rows.mean(axis=0)
        rows -= mean
        self._join(len(rows), mean, rows.T @ rows)

    def merge(self, other: "Moments") -> None:
        """Merge the moments of other features into these.

        Args:
            other: Moments to merge, which are not changed.

        Raises:
            ValueError: If the numbers of features differ.
        """
        if other.mean.shape != self.mean.shape:
            raise ValueError(
                f"moments of {other.mean.shape[0]} features cannot be merged with those of "
                f"{self.mean.shape[0]}: use one extractor for both"
            )
        self._join(other.count, other.mean, other.scatter)

    def gaussian(self) -> Gaussian:
        """Fit a normal distribution.

        Returns:
            Mean and unbiased covariance S / (count - 1).

        Raises:
            ValueError: If there are fewer than two images.
        """
        if self.count < 2:
            raise ValueError(
                f"The number of images is {self.count}, but a covariance needs at least 2"
            )
        return Gaussian(self.mean, self.scatter / (self.count - 1), self.count)

    def _join(
        self, count: int, mean: Float64[np.ndarray, " dim"], scatter: Float64[np.ndarray, "dim dim"]
    ) -> None:
        total = self.count + count
        if not total:
            return
        shift = mean - self.mean
        self.scatter += scatter
        self.scatter += np.outer(shift, shift * (self.count * count / total))
        self.mean = self.mean + shift * (count / total)
        self.count = total

"""Intervals for what was counted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev


@dataclass(frozen=True)
class Proportion:
    """So many successes in so many trials."""

    successes: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.total or self.total < 1:
            raise ValueError(
                f"successes {self.successes} must lie in 0 .. total {self.total}, and total be "
                f"at least 1"
            )

    @property
    def rate(self) -> float:
        """The observed share."""
        return self.successes / self.total

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Wilson's score interval (Wilson 1927), which stays in [0, 1] and needs no large count."""
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        spread = z * math.sqrt(self.rate * (1 - self.rate) / self.total + (z / self.total / 2) ** 2)
        middle, scale = self.rate + z * z / (2 * self.total), 1 + z * z / self.total
        return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


@dataclass(frozen=True)
class Mean:
    """The mean of a few values, such as one per seed, with Student's interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero.

        False where all values are equal: of a few pictures counted right, several seeds may give
        the very same difference, and there is no spread to judge it by.
        """
        spread = self.high - self.low > 1e-9 * abs(self.value)
        return spread and (self.low > 0 or self.high < 0)

    @classmethod
    def of(cls, values: Sequence[float], confidence: float = 0.95) -> "Mean":
        """Raises ValueError for fewer than two values, which have no interval.

        Of paired values give the differences: what a pair shares cancels.
        """
        from scipy.stats import t

        if len(values) < 2:
            raise ValueError(f"{len(values)} values have no interval: give at least 2")
        mean = fmean(values)
        half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values)
        half /= math.sqrt(len(values))
        return cls(mean, mean - half, mean + half)

    @classmethod
    def of_groups(cls, groups: Sequence[Sequence[float]], confidence: float = 0.95) -> "Mean":
        """The mean of the means of independent groups, with Welch's interval (Welch 1947).

        Raises ValueError for no group, or one of fewer than two values.
        """
        from scipy.stats import t

        if not groups or min(map(len, groups)) < 2:
            raise ValueError(
                f"groups of {[len(group) for group in groups]} values have no interval: give at "
                f"least 2 each"
            )
        mean = fmean(fmean(group) for group in groups)
        parts = [stdev(group) ** 2 / len(group) for group in groups]
        if not (variance := sum(parts)):
            return cls(mean, mean, mean)
        # Satterthwaite's degrees of freedom.
        freedom = variance**2 / sum(
            part**2 / (len(group) - 1) for part, group in zip(parts, groups, strict=True)
        )
        half = float(t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance) / len(groups)
        return cls(mean, mean - half, mean + half)


Scores = dict[str, Proportion]

"""Confidence intervals of proportions and means."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev


@dataclass(frozen=True)
class Proportion:
    """A number of successes among a number of trials.

    Raises:
        ValueError: Unless 0 <= successes <= total and total >= 1.
    """

    successes: int
    """Number of successes."""
    total: int
    """Number of trials."""

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.total or self.total < 1:
            raise ValueError(
                f"successes {self.successes} must lie in 0 .. total {self.total}, and total must "
                f"be at least 1"
            )

    @property
    def rate(self) -> float:
        """Fraction of successes, in [0, 1]."""
        return self.successes / self.total

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Compute Wilson's score interval (Wilson 1927).

        It lies in [0, 1] and is valid for small counts.

        Args:
            confidence: Coverage probability, in (0, 1).

        Returns:
            Lower and upper end.
        """
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        spread = z * math.sqrt(self.rate * (1 - self.rate) / self.total + (z / self.total / 2) ** 2)
        middle, scale = self.rate + z * z / (2 * self.total), 1 + z * z / self.total
        return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


@dataclass(frozen=True)
class Mean:
    """The mean of a few values, such as one per seed, with its confidence interval."""

    value: float
    """The mean."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies entirely on one side of zero.

        False if the interval has no width: with few images, several seeds may by chance give the
        same difference, which then has no estimate of its variance.
        """
        spread = self.high - self.low > 1e-9 * abs(self.value)
        return spread and (self.low > 0 or self.high < 0)

    @classmethod
    def of(cls, values: Sequence[float], confidence: float = 0.95) -> "Mean":
        """Compute the mean of independent values with Student's interval.

        For paired values, pass the differences.

        Args:
            values: At least two values.
            confidence: Coverage probability, in (0, 1).

        Returns:
            The mean with its interval.

        Raises:
            ValueError: If there are fewer than two values.
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
        """Compute the mean of the means of independent groups with Welch's interval (Welch 1947).

        Args:
            groups: At least two values per group.
            confidence: Coverage probability, in (0, 1).

        Returns:
            The mean with its interval.

        Raises:
            ValueError: If there are no groups, or one has fewer than two values.
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
        # Welch-Satterthwaite degrees of freedom.
        freedom = variance**2 / sum(
            part**2 / (len(group) - 1) for part, group in zip(parts, groups, strict=True)
        )
        half = float(t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance) / len(groups)
        return cls(mean, mean - half, mean + half)


Scores = dict[str, Proportion]
"""Proportions by name."""


def count_successes(verdicts: Iterable[tuple[str, bool]]) -> Scores:
    """Count successes and trials by name.

    Args:
        verdicts: Name and success of every trial.

    Returns:
        The proportion of each name, in the order of their first trials.
    """
    counts: dict[str, list[bool]] = {}
    for name, success in verdicts:
        counts.setdefault(name, []).append(success)
    return {name: Proportion(sum(trials), len(trials)) for name, trials in counts.items()}


def format_mean(mean: Mean, format_spec: str) -> str:
    """Format a mean and its interval, for example as `+1.2 [-0.3, +2.7]`.

    Args:
        mean: Mean with its interval.
        format_spec: Format of each number, such as `+.1f`.

    Returns:
        Mean and interval.
    """
    return f"{mean.value:{format_spec}} [{mean.low:{format_spec}}, {mean.high:{format_spec}}]"

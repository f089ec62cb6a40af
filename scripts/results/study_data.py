"""Results of the study as they were stored, and the statistics of differences between its arms."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy import stats

from scripts.study.study import Part

Result = Mapping[str, Any]
Results = Mapping[str, Mapping[int, Result]]
"""Results by arm and seed."""


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences over seeds, with its interval and p-value."""

    mean: float
    low: float
    """Lower end of Student's 95 % interval; -inf with one seed."""
    high: float
    p: float
    """Two-sided p-value of Student's paired test; nan with one seed."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Difference":
        """Compute mean, interval and p-value of paired differences.

        Args:
            values: Differences, one per seed; at least one.

        Returns:
            The difference.
        """
        mean = fmean(values)
        if len(values) < 2:
            return cls(mean, -math.inf, math.inf, math.nan)
        error = stdev(values) / len(values) ** 0.5
        if error == 0:
            return cls(mean, mean, mean, math.nan)
        width = stats.t.ppf(0.975, len(values) - 1) * error
        p = 2 * stats.t.sf(abs(mean) / error, len(values) - 1)
        return cls(mean, mean - width, mean + width, float(p))


def holm(values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979).

    Args:
        values: P-values; nan stays nan and is not counted.

    Returns:
        Corrected p-values in the same order.
    """
    order = sorted((p, place) for place, p in enumerate(values) if not math.isnan(p))
    corrected = [math.nan] * len(values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[place] = largest
    return corrected


def load_results(part: Part, results: Path) -> dict[str, dict[int, Result]]:
    """Read the results of a part that exist.

    Args:
        part: Part of the study.
        results: Folder of results.

    Returns:
        Results by arm and seed.
    """
    found: dict[str, dict[int, Result]] = {}
    for arm in part.all_arms:
        for seed in part.seeds:
            path = results / part.recipe / f"{arm.folder}-{seed}.json"
            if path.exists():
                found.setdefault(arm.name, {})[seed] = json.loads(path.read_text())
    return found


def common_seeds(found: Mapping[str, Mapping[int, Result]], arms: Sequence[str]) -> list[int]:
    """List the seeds for which all arms have a result.

    Args:
        found: Results by arm and seed.
        arms: Names of arms.

    Returns:
        Seeds in ascending order.
    """
    return sorted(set.intersection(*(set(found.get(arm, {})) for arm in arms)))


def paired_differences(
    found: Results, arm: str, baseline: str, value: Callable[[Result], float]
) -> dict[int, float]:
    """Compute the differences between an arm and the baseline.

    Args:
        found: Results by arm and seed.
        arm: Name of the arm.
        baseline: Name of the baseline.
        value: Reads the compared number from a result.

    Returns:
        Differences by seed, for the seeds that both have.
    """
    if arm not in found or baseline not in found:
        return {}
    return {
        seed: value(found[arm][seed]) - value(found[baseline][seed])
        for seed in common_seeds(found, [arm, baseline])
    }

"""Interleaved timings of several workloads in one process."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Workload = Callable[[], object]
"""Function without arguments to be timed."""


LEAST_ROUNDS = 3
"""Rounds that are timed even if the budget is spent."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a sample."""

    median: float
    """Median."""
    low: float
    """First quartile."""
    high: float
    """Third quartile."""

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Compute median and quartiles.

        Args:
            values: At least one value.

        Returns:
            Median, and quartiles by linear interpolation.
        """
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Timing:
    """How long one workload took, in several rounds."""

    seconds: tuple[float, ...]
    """Seconds per call, one value per round."""

    @property
    def spread(self) -> Spread:
        """Median and quartiles over the rounds."""
        return Spread.of(list(self.seconds))

    def over(self, other: "Timing") -> Spread:
        """Return the ratio of this time to another one.

        Ratios are taken round by round, so that a slow-down of the machine during a round cancels.

        Args:
            other: Timing of a workload in the same rounds.

        Returns:
            Median and quartiles of the ratios.

        Raises:
            ValueError: The timings have different numbers of rounds.
        """
        return Spread.of([a / b for a, b in zip(self.seconds, other.seconds, strict=True)])


def time_interleaved(
    workloads: Mapping[str, Workload],
    *,
    rounds: int,
    repeats: int = 1,
    warmup: int = 1,
    budget: float = math.inf,
) -> dict[str, Timing]:
    """Time several workloads, each once per round.

    Every round starts with another workload, so that none is always the first.

    Args:
        workloads: Workloads by name.
        rounds: Largest number of rounds.
        repeats: Calls per round, over which the time is averaged.
        warmup: Calls of each workload before the first round.
        budget: Seconds, with those of the first calls, after which no round begins, except for the
            first `LEAST_ROUNDS`.

    Returns:
        Timings by name.
    """
    names, began = list(workloads), time.perf_counter()
    for name in names:
        for _ in range(warmup):
            workloads[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        if index >= LEAST_ROUNDS and time.perf_counter() - began > budget:
            break
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(_seconds_per_call(workloads[name], repeats))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _seconds_per_call(workload: Workload, repeats: int) -> float:
    _synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        workload()
    _synchronize()
    return (time.perf_counter() - started) / repeats


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

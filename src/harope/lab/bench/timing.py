"""Timings of several works side by side, in one process and interleaved."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Timing:
    """Seconds of one work, one value per round."""

    seconds: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        """Median and quartiles over the rounds."""
        return Spread.of(list(self.seconds))

    def over(self, other: "Timing") -> Spread:
        """This one's time divided by the other's, round by round: what slows a round cancels."""
        return Spread.of([a / b for a, b in zip(self.seconds, other.seconds, strict=True)])


def time_interleaved(
    works: Mapping[str, Work], *, rounds: int, repeats: int = 1, warmup: int = 1
) -> dict[str, Timing]:
    """Time every work once per round, `repeats` calls at a time.

    Each round starts with another work, so that none is always the first or follows the same one.
    """
    names = list(works)
    for name in names:
        for _ in range(warmup):
            works[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(_seconds(works[name], repeats))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _seconds(work: Work, repeats: int) -> float:
    _wait()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    _wait()
    return (time.perf_counter() - started) / repeats


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

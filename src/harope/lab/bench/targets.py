"""Targets for the cost of the encodings, with the measurements that they are compared with."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from harope.lab.bench.memory import peak_bytes
from harope.lab.bench.rotation import KERNEL
from harope.lab.bench.sampling import count_repeated_operators
from harope.lab.bench.step import PLAIN, StepConfig, forward_pass, training_step
from harope.lab.bench.timing import Spread, Timing, time_interleaved


@dataclass(frozen=True)
class TargetRow:
    """Ratio or count with its target."""

    name: str
    """Name in tables."""
    value: Spread
    """Measured ratio or count."""
    target: float
    """Value to reach."""
    at_least: bool = False
    """Whether the target is a lower bound; otherwise it is an upper bound."""

    @property
    def met(self) -> bool:
        """Whether the median reaches the target."""
        median = self.value.median
        return median >= self.target if self.at_least else median <= self.target

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of `bench.json`.

        Returns:
            Values by key.
        """
        return {
            "work": self.name,
            "value": asdict(self.value),
            "goal": self.target,
            "at_least": self.at_least,
            "met": self.met,
        }


def rotation_rows(timings: dict[str, Timing], peers: list[str]) -> list[TargetRow]:
    """Compare harope's rotations with the fastest peer and with a copy of their input.

    Args:
        timings: Timings by name, see `harope.lab.bench.rotation`.
        peers: Names of the peers among the timings.

    Returns:
        Ratios with their targets.
    """
    rows = []
    fastest = min(peers, key=lambda name: timings[name].spread.median, default=None)
    if fastest is not None:
        targets = {"harope": 2.5, "harope, compiled": 6.0, "harope, half, compiled": 6.0}
        for name, target in targets.items():
            speedup = timings[fastest].over(timings[name])
            rows.append(TargetRow(f"rotate: {fastest} / {name}", speedup, target, at_least=True))
    copies = {"harope, compiled": 2.3, "harope, half, compiled": 2.3, KERNEL: 1 / 0.85}
    for name in (name for name in copies if name in timings):
        ratio = timings[name].over(timings["copy"])
        rows.append(TargetRow(f"rotate: {name} / copy", ratio, copies[name]))
    return rows


def step_rows(
    config: StepConfig, rounds: int, budget: float = math.inf
) -> tuple[list[TargetRow], dict[str, Timing]]:
    """Time training steps with several encodings, and of the plain formulation without any.

    Args:
        config: Size of the model and of its input.
        rounds: Largest number of timings per encoding.
        budget: Seconds after which no round begins.

    Returns:
        Ratios with their targets, and timings by name.
    """
    names = ("harope", "axial", "none", "naive", PLAIN)
    steps = {name: training_step(name, config) for name in names}
    timings = time_interleaved(steps, rounds=rounds, budget=budget)
    harope, prefix = timings["harope"], f"{config.size} training step, batch {config.batch}: "
    rows = [
        TargetRow(f"{prefix}harope / axial", harope.over(timings["axial"]), 1.03),
        TargetRow(f"{prefix}harope / none", harope.over(timings["none"]), 1.06),
        TargetRow(f"{prefix}harope / {PLAIN}", harope.over(timings[PLAIN]), 1.06),
        TargetRow(f"{prefix}naive / harope", timings["naive"].over(harope), 1.15, at_least=True),
    ]
    return rows, {f"step: {name}": timing for name, timing in timings.items()}


def forward_rows(
    config: StepConfig, rounds: int, budget: float = math.inf
) -> tuple[list[TargetRow], dict[str, Timing]]:
    """Time forward passes with folded HARoPE and with axial RoPE.

    Args:
        config: Size of the model and of its input.
        rounds: Largest number of timings per encoding.
        budget: Seconds after which no round begins.

    Returns:
        Ratio with its target, and timings by name.
    """
    passes = {name: forward_pass(name, config) for name in ("harope", "axial")}
    timings = time_interleaved(passes, rounds=rounds, budget=budget)
    ratio = timings["harope"].over(timings["axial"])
    rows = [TargetRow(f"{config.size} forward: harope, folded / axial", ratio, 1.01)]
    return rows, {f"forward: {name}": timing for name, timing in timings.items()}


def memory_row(config: StepConfig) -> TargetRow:
    """Compare the peak memory of training steps with HARoPE and with axial RoPE.

    Args:
        config: Size of the model and of its input.

    Returns:
        Ratio with its target.
    """
    peaks = {}
    for name in ("harope", "axial"):
        step = training_step(name, config)
        # The first step allocates the optimizer's moments.
        step()
        peaks[name] = peak_bytes(step, config.device)
    return TargetRow(
        f"{config.size} training step: peak memory, harope / axial",
        Spread.of([peaks["harope"] / peaks["axial"]]),
        1.02,
    )


def repeated_row(config: StepConfig) -> TargetRow:
    """Count the operators on tables and matrices after the first step of a sampling loop.

    Args:
        config: Size of the model and of its input.

    Returns:
        Count with its target.
    """
    return TargetRow(
        "sampling loop: operators on tables and matrices after the first step",
        Spread.of([float(count_repeated_operators("harope", config))]),
        0.0,
    )

"""What the encodings may cost: each measurement beside its goal."""

from dataclasses import dataclass

from harope.lab.bench.memory import peak_bytes
from harope.lab.bench.sampling import count_repeated_operators
from harope.lab.bench.step import StepConfig, forward_pass, training_step
from harope.lab.bench.timing import Spread, Timing, time_interleaved


@dataclass(frozen=True)
class Row:
    """One ratio, or count, and its goal."""

    work: str
    value: Spread
    goal: float
    at_least: bool = False
    """Whether more is better."""

    @property
    def met(self) -> bool:
        """Whether the median reaches the goal."""
        return self.value.median >= self.goal if self.at_least else self.value.median <= self.goal


def rotation_rows(timings: dict[str, Timing], peers: list[str]) -> list[Row]:
    """Ours against the fastest installed peer in real numbers, and against a copy."""
    rows = []
    fastest = min(peers, key=lambda name: timings[name].spread.median, default=None)
    if fastest is not None:
        goals = {"harope": 2.5, "harope, compiled": 6.0, "harope, half, compiled": 6.0}
        for name, goal in goals.items():
            faster = timings[fastest].over(timings[name])
            rows.append(Row(f"rotate: {fastest} / {name}", faster, goal, at_least=True))
    for name in ("harope, compiled", "harope, half, compiled"):
        rows.append(Row(f"rotate: {name} / copy", timings[name].over(timings["copy"]), 2.3))
    return rows


def step_rows(config: StepConfig, rounds: int) -> tuple[list[Row], dict[str, Timing]]:
    """Training steps with HARoPE, axial, none and naive HARoPE, interleaved."""
    names = ("harope", "axial", "none", "naive")
    timings = time_interleaved({name: training_step(name, config) for name in names}, rounds=rounds)
    harope, prefix = timings["harope"], f"{config.size} training step, batch {config.batch}: "
    rows = [
        Row(f"{prefix}harope / axial", harope.over(timings["axial"]), 1.03),
        Row(f"{prefix}harope / none", harope.over(timings["none"]), 1.06),
        Row(f"{prefix}naive / harope", timings["naive"].over(harope), 1.15, at_least=True),
    ]
    return rows, {f"step: {name}": timing for name, timing in timings.items()}


def forward_rows(config: StepConfig, rounds: int) -> tuple[list[Row], dict[str, Timing]]:
    """Folded HARoPE against axial."""
    timings = time_interleaved(
        {name: forward_pass(name, config) for name in ("harope", "axial")}, rounds=rounds
    )
    ratio = timings["harope"].over(timings["axial"])
    rows = [Row(f"{config.size} forward: harope, folded / axial", ratio, 1.01)]
    return rows, {f"forward: {name}": timing for name, timing in timings.items()}


def memory_row(config: StepConfig) -> Row:
    """Peak of a training step's tensors."""
    peaks = {}
    for name in ("harope", "axial"):
        step = training_step(name, config)
        # The optimizer makes its moments in the first step.
        step()
        peaks[name] = peak_bytes(step)
    return Row(
        f"{config.size} training step: peak memory, harope / axial",
        Spread.of([peaks["harope"] / peaks["axial"]]),
        1.02,
    )


def repeated_row(config: StepConfig) -> Row:
    """Tables and matrices in the second step of a sampling loop."""
    return Row(
        "sampling loop: operators on tables and matrices after the first step",
        Spread.of([float(count_repeated_operators("harope", config))]),
        0.0,
    )

"""Entry point of `harope bench`: measure, print and write the cost of the encodings."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from harope._utils.atomic import write_json_atomic
from harope._utils.field_checks import AT_LEAST_ONE, check_range
from harope.lab.bench.grids import AXES, time_axis
from harope.lab.bench.hardware import describe_hardware
from harope.lab.bench.rotation import (
    compiled_rotations,
    complex_rotations,
    eager_rotations,
    kernel_rotations,
    peer_rotations,
)
from harope.lab.bench.step import StepConfig
from harope.lab.bench.targets import (
    TargetRow,
    forward_rows,
    memory_row,
    repeated_row,
    rotation_rows,
    step_rows,
)
from harope.lab.bench.timing import Timing, time_interleaved
from harope.lab.reporting.plots import plot_costs
from harope.lab.reporting.tables import text_table

QUERIES = (16, 12, 256, 64)
"""Shape of the rotated queries: those of DiT-B for 16 images of 256 tokens."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What `harope bench` measures, and on which device."""

    quick: bool = False
    """Whether to time fewer rounds of smaller batches and to skip the grids of sizes."""
    threads: int = 2
    """Number of CPU threads."""
    device: str = "cpu"
    """Device: `cpu` or `cuda`."""

    def __post_init__(self) -> None:
        check_range(self, AT_LEAST_ONE, "threads")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda' is not available on this machine; use cpu")

    @property
    def step(self) -> StepConfig:
        """Model and input of the timed steps, as large as the device is fast."""
        if self.device == "cuda":
            return StepConfig(size="DiT-B/2", batch=64, device="cuda", autocast=True)
        return StepConfig(batch=4 if self.quick else 8)

    @property
    def memory_step(self) -> StepConfig:
        """Model and input whose memory is measured, with the batch that the target is for."""
        return self.step if self.device == "cuda" else StepConfig()

    @property
    def budget(self) -> float:
        """Seconds for which each kind of workload is timed at most, apart from few rounds."""
        return 40.0 if self.quick else math.inf


@dataclass
class BenchReport:
    """What `harope bench` measured: times, and ratios with their targets."""

    machine: dict[str, str]
    """Hardware and versions, see `describe_hardware`."""
    rows: list[TargetRow] = field(default_factory=list)
    """Ratios with their targets."""
    timings: dict[str, Timing] = field(default_factory=dict)
    """Timings by name of the workload."""
    sweeps: dict[str, dict[int, dict[str, Timing]]] = field(default_factory=dict)
    """Timings of rotations by axis, value of the axis, and name; empty in quick mode."""

    def add(self, rows: list[TargetRow], timings: dict[str, Timing]) -> None:
        """Append ratios and timings.

        Args:
            rows: Ratios with their targets.
            timings: Timings by name of the workload.
        """
        self.rows += rows
        self.timings |= timings


def run_bench(
    config: BenchConfig,
    out: Path | None = None,
    log: Callable[[str], None] = print,
    show: Callable[[str], None] = print,
) -> BenchReport:
    """Run the benchmark.

    Args:
        config: Options.
        out: Folder for `bench.json` and `bench.png`, see `write_report`; None to write nothing.
        log: Called with a line of progress before each part, which takes seconds to minutes.
        show: Called with a line for each ratio as soon as it is measured.

    Returns:
        Results.
    """
    device = torch.device(config.device)
    torch.set_num_threads(config.threads)
    report = BenchReport(describe_hardware(device))
    step, budget = config.step, config.budget

    def add(rows: list[TargetRow], timings: dict[str, Timing]) -> None:
        report.add(rows, timings)
        for row in target_table(BenchReport({}, rows))[1:]:
            show("  " + "  ".join(cell for cell in row if cell))

    log(f"training steps of {step.size}")
    add(*step_rows(step, rounds=9 if config.quick else 21, budget=budget))
    log(f"forward passes of {step.size}")
    add(*forward_rows(step, rounds=11 if config.quick else 31, budget=budget / 2))
    log("memory of a training step, operators of a sampling loop")
    add([memory_row(config.memory_step), repeated_row(replace(step, batch=1))], {})
    log("rotations, eager and compiled")
    add(*_measure_rotation(config, device))
    for axis in () if config.quick else AXES:
        report.sweeps[axis] = time_axis(axis, device, log)
    if out is not None:
        write_report(report, out)
    return report


def count_parts(config: BenchConfig) -> int:
    """Count the parts of a benchmark, each of which is announced once.

    Args:
        config: Options.

    Returns:
        Number of lines that `run_bench` logs.
    """
    return 4 + (0 if config.quick else sum(map(len, AXES.values())))


def format_report(report: BenchReport) -> str:
    """Format the hardware, the table of targets and the table of times as text.

    Args:
        report: Results of the benchmark.

    Returns:
        The two tables below the hardware.
    """
    facts = "\n".join(f"{name}: {value}" for name, value in report.machine.items())
    return "\n\n".join([facts, text_table(target_table(report)), text_table(time_table(report))])


def target_table(report: BenchReport) -> list[list[str]]:
    """Return the table of ratios with their targets.

    Args:
        report: Results of the benchmark.

    Returns:
        Header and rows: name, median, quartiles, target, and whether it is met.
    """
    table = [["ratio", "median", "quartiles", "target", ""]]
    for row in report.rows:
        value, sign = row.value, ">=" if row.at_least else "<="
        quartiles = f"{value.low:.3g} to {value.high:.3g}" if value.low < value.high else ""
        verdict = "met" if row.met else "missed"
        table.append(
            [row.name, f"{value.median:.3g}", quartiles, f"{sign} {row.target:g}", verdict]
        )
    return table


def time_table(report: BenchReport) -> list[list[str]]:
    """Return the table of times.

    Args:
        report: Results of the benchmark.

    Returns:
        Header and rows: name, median in milliseconds, quartiles, and for rotations the ratio of
        their time to that of copying their input.
    """
    table = [["workload", "ms", "quartiles", "ratio to a copy"]]
    for name, timing in report.timings.items():
        spread, ratio = timing.spread, ""
        if not name.startswith(("step", "forward")):
            ratio = f"{timing.over(report.timings['copy']).median:.2f}"
        quartiles = f"{1e3 * spread.low:.2f} to {1e3 * spread.high:.2f}"
        table.append([name, f"{1e3 * spread.median:.2f}", quartiles, ratio])
    return table


def _measure_rotation(
    config: BenchConfig, device: torch.device
) -> tuple[list[TargetRow], dict[str, Timing]]:
    # On a GPU, queries have half precision, as under autocast.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    x = torch.randn(QUERIES, device=device).to(dtype)
    angles = 10 * torch.rand(QUERIES[2], QUERIES[3] // 2, device=device)
    peers = peer_rotations(x, angles)
    rotations = eager_rotations(x, angles) | compiled_rotations(x, angles) | peers
    rotations |= kernel_rotations(x, angles)
    if dtype == torch.float32:
        rotations |= complex_rotations(x, angles)
    rounds = 15 if config.quick else 51
    timings = time_interleaved(
        rotations, rounds=rounds, repeats=3, warmup=3, budget=config.budget / 2
    )
    return rotation_rows(timings, list(peers)), timings


def write_report(report: BenchReport, out: Path) -> None:
    """Write `bench.json` with all single times, and `bench.png` if sizes were varied.

    Args:
        report: Results of the benchmark.
        out: Folder to write to.
    """
    out.mkdir(parents=True, exist_ok=True)
    values = {
        "machine": report.machine,
        "rows": [row.to_dict() for row in report.rows],
        "timings": {name: timing.seconds for name, timing in report.timings.items()},
        "sweeps": {
            axis: {
                value: {name: timing.seconds for name, timing in timings.items()}
                for value, timings in points.items()
            }
            for axis, points in report.sweeps.items()
        },
    }
    write_json_atomic(out / "bench.json", values, indent=1)
    if report.sweeps:
        curves = {
            axis: {
                value: {name: timing.spread.median for name, timing in timings.items()}
                for value, timings in points.items()
            }
            for axis, points in report.sweeps.items()
        }
        plot_costs(curves, out / "bench.png")

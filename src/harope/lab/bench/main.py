"""The benchmark: what `harope bench` measures, prints and writes."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from harope.lab.bench.grids import AXES, sweep
from harope.lab.bench.hardware import describe_hardware
from harope.lab.bench.rotation import (
    compiled_rotations,
    complex_rotations,
    eager_rotations,
    peer_rotations,
)
from harope.lab.bench.step import StepConfig
from harope.lab.bench.targets import (
    Row,
    forward_rows,
    memory_row,
    repeated_row,
    rotation_rows,
    step_rows,
)
from harope.lab.bench.timing import Timing, time_interleaved
from harope.lab.reporting.plots import plot_costs
from harope.lab.reporting.tables import text_table

# The queries of DiT-B at 16 samples of 256 tokens.
QUERIES = (16, 12, 256, 64)


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """How thorough, and where."""

    quick: bool = False
    """Fewer rounds, and no sweeps."""
    threads: int = 2
    """Of torch, on the CPU."""
    device: str = "cpu"
    """cpu or cuda."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads {self.threads} must be at least 1")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda' has no GPU here: use cpu")


@dataclass
class Report:
    """Everything measured."""

    machine: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    timings: dict[str, Timing] = field(default_factory=dict)
    sweeps: dict[str, dict[int, dict[str, Timing]]] = field(default_factory=dict)

    def add(self, rows: list[Row], timings: dict[str, Timing]) -> None:
        """More of both."""
        self.rows += rows
        self.timings |= timings


def run_bench(config: BenchConfig, out: Path | None = None) -> Report:
    """Measure; with `out`, also write bench.json and, after sweeps, bench.png there."""
    device = torch.device(config.device)
    torch.set_num_threads(config.threads)
    report = Report(describe_hardware(device))
    _measure_rotation(report, config, device)
    step = StepConfig(device=config.device)
    report.add(*step_rows(step, rounds=9 if config.quick else 21))
    report.add(*forward_rows(step, rounds=11 if config.quick else 31))
    report.add([memory_row(step), repeated_row(StepConfig(device=config.device, batch=1))], {})
    for axis in () if config.quick else AXES:
        report.sweeps[axis] = sweep(axis, device)
    if out is not None:
        write_report(report, out)
    return report


def format_report(report: Report) -> str:
    """The machine, the goals, the times."""
    facts = "\n".join(f"{name}: {value}" for name, value in report.machine.items())
    return "\n\n".join([facts, text_table(target_table(report)), text_table(time_table(report))])


def target_table(report: Report) -> list[list[str]]:
    """Every ratio beside its goal."""
    table = [["work", "ratio", "quartiles", "goal", ""]]
    for row in report.rows:
        value, sign = row.value, ">=" if row.at_least else "<="
        quartiles = f"{value.low:.3g} to {value.high:.3g}" if value.low < value.high else ""
        verdict = "met" if row.met else "missed"
        table.append([row.work, f"{value.median:.3g}", quartiles, f"{sign} {row.goal:g}", verdict])
    return table


def time_table(report: Report) -> list[list[str]]:
    """Every time, rotations also as a ratio over a copy of their input."""
    table = [["work", "ms", "quartiles", "over a copy"]]
    for name, timing in report.timings.items():
        spread, ratio = timing.spread, ""
        if not name.startswith(("step", "forward")):
            ratio = f"{timing.over(report.timings['copy']).median:.2f}"
        quartiles = f"{1e3 * spread.low:.2f} to {1e3 * spread.high:.2f}"
        table.append([name, f"{1e3 * spread.median:.2f}", quartiles, ratio])
    return table


def _measure_rotation(report: Report, config: BenchConfig, device: torch.device) -> None:
    x = torch.randn(QUERIES, device=device)
    angles = 10 * torch.rand(QUERIES[2], QUERIES[3] // 2, device=device)
    peers = peer_rotations(x, angles)
    works = eager_rotations(x, angles) | compiled_rotations(x, angles) | peers
    works |= complex_rotations(x, angles)
    rounds = 15 if config.quick else 51
    timings = time_interleaved(works, rounds=rounds, repeats=3, warmup=3)
    report.add(rotation_rows(timings, list(peers)), timings)


def write_report(report: Report, out: Path) -> None:
    """bench.json with every single time, and bench.png where there are sweeps."""
    out.mkdir(parents=True, exist_ok=True)
    values = {
        "machine": report.machine,
        "rows": [asdict(row) | {"met": row.met} for row in report.rows],
        "timings": {name: timing.seconds for name, timing in report.timings.items()},
        "sweeps": {
            axis: {
                value: {name: timing.seconds for name, timing in timings.items()}
                for value, timings in points.items()
            }
            for axis, points in report.sweeps.items()
        },
    }
    (out / "bench.json").write_text(json.dumps(values, indent=1) + "\n")
    if report.sweeps:
        curves = {
            axis: {
                value: {name: timing.spread.median for name, timing in timings.items()}
                for value, timings in points.items()
            }
            for axis, points in report.sweeps.items()
        }
        plot_costs(curves, out / "bench.png")

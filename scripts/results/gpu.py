"""Page of what `benchmarks/gpu/run.sh` measured on a GPU, or that nothing was measured yet.

The report of a run is stored as `docs/results/gpu.json`. The page of another one is written by
`python -m scripts.results.gpu REPORT PAGE`.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harope._utils.json_files import load_json
from scripts.results.page import COMMAND, PAGES, Part, Rows, page_text, write_page

Report = Mapping[str, Any]
"""Results by part, see `benchmarks/gpu/README.md`."""

TITLE = "On a GPU"
NOT_MEASURED = "not measured"
QUERIES = "dit-b 256 bfloat16"
"""Queries of the goal for the rotation: those of DiT-B/2 with 256 images."""
LIMIT = 3584
"""Images per second of DiT-B/2 at half of an H100's peak: 989.4e12 / 2 / (3 x 46.01e9)."""


@dataclass(frozen=True)
class Goal:
    """A number to reach on an H100."""

    text: str
    """What is measured, and the goal."""
    value: Callable[[Report], float]
    """Computes it from a report; raises KeyError or TypeError if it was not measured."""
    goal: float
    """Number to reach."""
    at_least: bool = True
    """Whether the goal is a lower bound; otherwise it is an upper bound."""


def _ms(report: Report, part: str, name: str) -> float:
    return report[part][name]["ms"]


def _rotation(report: Report, kind: str) -> float:
    times = report["kernel_speed"][QUERIES]
    copy = "copy of packed" if kind == "packed" else "copy"
    return times[copy]["ms"] / times[f"kernel, {kind}"]["ms"]


def _normed(report: Report) -> float:
    ratios = [
        times["normed eager torch, packed"]["ms"] / times["normed kernel, packed"]["ms"]
        for times in report["kernel_speed"].values()
        if isinstance(times.get("normed kernel, packed"), dict)
    ]
    if not ratios:
        raise KeyError("normed kernel, packed")
    return min(ratios)


GOALS = (
    Goal(
        "rotation kernel, dense queries: fraction of a copy's speed",
        lambda report: _rotation(report, "dense"),
        0.85,
    ),
    Goal(
        "rotation kernel, packed queries: fraction of a copy's speed",
        lambda report: _rotation(report, "packed"),
        0.85,
    ),
    Goal("QK-norm kernel: times as fast as its eager form", _normed, 4.0),
    Goal(
        "training step of DiT-B/2, compiled: harope / axial",
        lambda report: _ms(report, "dit_compiled", "harope") / _ms(report, "dit_compiled", "axial"),
        1.02,
        at_least=False,
    ),
    Goal(
        "forward pass of DiT-B/2, compiled: harope, folded / axial",
        lambda report: _ms(report, "dit_folded", "harope") / _ms(report, "dit_folded", "axial"),
        1.00,
        at_least=False,
    ),
    Goal(
        "training of DiT-B/2, harope, compiled: images per second",
        lambda report: report["dit_compiled"]["harope"]["images_per_s"],
        2000.0,
    ),
)
"""What is to be reached on an H100."""

TRAININGS = {
    "dit_plain": "plain DiT, not compiled",
    "dit_eager": "DiT-B/2, not compiled",
    "dit_compiled": "DiT-B/2, compiled",
    "dit_xl_compiled": "DiT-XL/2, compiled",
}
"""Parts that time training steps, and their titles."""


def write_gpu() -> None:
    """Write the page of the stored report, or the page that says that there is none."""
    stored = PAGES / "gpu.json"
    write_page("gpu", TITLE, *gpu_parts(load_json(stored) if stored.is_file() else None))


def format_page(values: Mapping[str, Any] | None) -> str:
    """Return the page of a report as Markdown.

    Args:
        values: Report of `benchmarks/gpu/run.sh`; None if there is none.

    Returns:
        The page.
    """
    return page_text(TITLE, *gpu_parts(values))


def gpu_parts(values: Mapping[str, Any] | None) -> Iterator[Part]:
    """Yield the paragraphs and tables of the page.

    Args:
        values: Report of `benchmarks/gpu/run.sh`; None if there is none.

    Yields:
        Markdown, and tables.
    """
    yield (
        f"Produced by `{COMMAND} gpu` from `docs/results/gpu.json`, the report of "
        "`benchmarks/gpu/run.sh` on one GPU."
    )
    if values is None:
        yield (
            "**Not measured**: no run on a GPU has been stored yet. [The page on scale]"
            "(../scale.md) has what is known by counting, and [the page on cost](speed.md) what a "
            "CPU measures."
        )
    report = {} if values is None else values["parts"]
    yield from _how_to_measure()
    yield "## Goals"
    yield (
        "For one H100. Rotation and copy read and write each query and key once; the QK-norm "
        f"kernel is that of norm, matrix and rotation. At half of the card's peak, DiT-B/2 trains "
        f"on {LIMIT:,} images per second."
    )
    yield goal_rows(report)
    if values is None:
        return
    yield "## Machine"
    yield [("", "machine"), *((name, str(v)) for name, v in report["environment"].items())]
    yield from _measurements(report)
    if values["failed"]:
        yield "## Not measured"
        yield [("part", "reason"), *((k, _cell(v)) for k, v in values["failed"].items())]


def goal_rows(report: Report) -> Rows:
    """Compare what was measured with the goals.

    Args:
        report: Results by part; empty if nothing was measured.

    Returns:
        Header and one row per goal.
    """
    rows: Rows = [("", "goal", "measured", "")]
    for goal in GOALS:
        bound = f"{'>=' if goal.at_least else '<='} {goal.goal:g}"
        try:
            value = goal.value(report)
        except (KeyError, TypeError):
            # A measurement that failed is an error message in place of its numbers.
            rows.append((goal.text, bound, NOT_MEASURED, ""))
            continue
        met = value >= goal.goal if goal.at_least else value <= goal.goal
        rows.append((goal.text, bound, f"{value:.4g}", "met" if met else "missed"))
    return rows


def _how_to_measure() -> Iterator[Part]:
    yield "## How to measure"
    yield (
        "On a machine with a GPU, PyTorch and accelerate, from the root of the repository; it "
        "takes at most nine minutes and needs no network:"
    )
    yield (
        "```text\nbenchmarks/gpu/run.sh gpu-results\n"
        f"cp gpu-results/gpu.json docs/results/gpu.json\n{COMMAND} gpu\n```"
    )
    yield "`benchmarks/gpu/README.md` describes the parts, and what each of them needs."


def _measurements(report: Report) -> Iterator[Part]:
    accuracy = [
        (name, key, _cell(value))
        for name in ("rotation_accuracy", "rotation_gradients", "normed_accuracy", "exponential")
        for key, value in report.get(name, {}).items()
    ]
    if accuracy:
        yield "## Against float64"
        yield [("part", "", "found"), *accuracy]
    if "kernel_speed" in report:
        yield "## Kernels"
        yield "Milliseconds, and GB/s with every query and key read and written once."
        yield _kernel_rows(report["kernel_speed"])
    trainings = list(_training_rows(report))
    if trainings:
        yield "## Training steps"
        yield "In bfloat16, 256 tokens per image; the peak is that of an H100, 989 TFLOP/s."
        header = ("model", "encoding", "images/s", "ms", "of the peak", "GiB")
        yield [header, *trainings]
    if "dit_folded" in report:
        yield "## Forward passes, basis folded"
        rows = [
            (name, *_numbers(found, "images_per_s", "ms"))
            for name, found in report["dit_folded"].items()
        ]
        yield [("encoding", "images/s", "ms"), *rows]
    if "study" in report:
        yield "## The study"
        arms = report["study"]["arms"].items()
        yield [("arm", "found"), *((name, _cell(found)) for name, found in arms)]


def _kernel_rows(shapes: Mapping[str, Any]) -> Rows:
    rows: Rows = [("queries", "implementation", "ms", "GB/s")]
    for shape, times in shapes.items():
        rows += [(shape, name, *_numbers(found, "ms", "gb_per_s")) for name, found in times.items()]
    return rows


def _training_rows(report: Report) -> Iterator[tuple[str, ...]]:
    keys = ("images_per_s", "ms", "share_of_989", "gib")
    for part, title in TRAININGS.items():
        for name, found in report.get(part, {}).items():
            yield (title, name, *_numbers(found, *keys))


def _numbers(found: Any, *keys: str) -> tuple[str, ...]:
    """Return the cells of a measurement; its error message in place of the first if it failed."""
    if not isinstance(found, dict):
        return (_cell(found), *[""] * (len(keys) - 1))
    return tuple(_cell(found.get(key, "")) for key in keys)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")[:200]


def write_report(source: Path, target: Path) -> None:
    """Write the page of a report that is not the stored one.

    Args:
        source: JSON file of the report.
        target: Markdown file.
    """
    target.write_text(format_page(load_json(source)), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    write_report(Path(sys.argv[1]), Path(sys.argv[2]))

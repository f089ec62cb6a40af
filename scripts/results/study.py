"""Tables and figures of docs/results/study.md, from the committed results of finished runs.

Nothing is trained or loaded but JSON: the page can be made again anywhere.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from scipy import stats

from scripts.results.page import PAGES
from scripts.study.study import PARTS, RESULTS, Part

Result = Mapping[str, Any]

BEGIN, END = "<!-- results: written by `make study-report` -->", "<!-- end of results -->"
PRIMARY = {"fashion-vit": "top1"}
"""Primary metric by recipe; the EMA loss on new images for all others."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An arm of a part as the page names it, and its files."""

    name: str
    """The arm as it was written in the list of runs, such as `harope:per_head=false`."""
    folder: str
    """Start of the names of its result files."""


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """A part of the study, ready to be reported."""

    key: str
    """Letter of the part."""
    title: str
    """What it compares."""
    recipe: str
    """Folder of its results."""
    arms: tuple[Arm, ...]
    """The baseline first."""
    seeds: tuple[int, ...]
    """Seeds that were planned."""
    primary: str
    """Measure that decides."""


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds."""

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


def load_results(part: PartReport, results: Path) -> dict[str, dict[int, Result]]:
    """Read the results of a part that exist.

    Args:
        part: Part of the study.
        results: Folder of results.

    Returns:
        Results by arm and seed.
    """
    found: dict[str, dict[int, Result]] = {}
    for arm in part.arms:
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


def part_lines(part: PartReport, results: Path) -> list[str]:
    """Describe a part as Markdown: what is finished, and a table of means and paired differences.

    Args:
        part: Part of the study.
        results: Folder of results.

    Returns:
        Lines.
    """
    found = load_results(part, results)
    count = sum(len(runs) for runs in found.values())
    total = len(part.arms) * len(part.seeds)
    lines = [f"### {part.key}. {part.title}", "", f"{count} of {total} runs are finished."]
    baseline = part.arms[0].name
    if baseline not in found:
        return [*lines, ""]
    measures = list(next(iter(found[baseline].values()))["measures"])
    measures = [part.primary, *(name for name in measures if name != part.primary)]
    rows = [
        row for arm in part.arms if (row := _row(arm.name, baseline, measures, found)) is not None
    ]
    corrected = holm([row.p for row in rows])
    lines += ["", f"| arm | seeds | {' | '.join(measures)} | p of {part.primary}, Holm |"]
    lines.append("|---" * (len(measures) + 3) + "|")
    for row, p in zip(rows, corrected, strict=True):
        shown = "" if math.isnan(p) else f"{p:.3g}"
        lines.append(f"| `{row.name}` | {row.seeds} | {' | '.join(row.cells)} | {shown} |")
    lines += [
        "",
        f"First row: means over the seeds of `{baseline}`. Other rows: mean paired differences "
        "from it with Student's 95 % intervals; shares are in points.",
        "",
    ]
    return lines


@dataclass(frozen=True)
class _Row:
    name: str
    seeds: str
    cells: list[str]
    p: float


def _row(
    arm: str, baseline: str, measures: Sequence[str], found: Mapping[str, Mapping[int, Result]]
) -> _Row | None:
    seeds = common_seeds(found, [arm, baseline])
    if not seeds:
        return None
    names = ", ".join(map(str, seeds))
    if arm == baseline:
        cells = [
            _shown(measure, fmean(found[arm][s]["measures"][measure] for s in seeds), "")
            for measure in measures
        ]
        return _Row(arm, names, cells, math.nan)
    differences = [
        Difference.of(
            [
                found[arm][s]["measures"][measure] - found[baseline][s]["measures"][measure]
                for s in seeds
            ]
        )
        for measure in measures
    ]
    cells = [
        f"{_shown(m, d.mean, '+')} [{_shown(m, d.low, '+')}, {_shown(m, d.high, '+')}]"
        for m, d in zip(measures, differences, strict=True)
    ]
    return _Row(arm, names, cells, differences[0].p)


def _shown(measure: str, value: float, sign: str) -> str:
    """A loss with five digits after the point, a share in per cent."""
    return f"{value:{sign}.5f}" if measure.endswith("loss") else f"{100 * value:{sign}.1f}"


def plot_primary(parts: Sequence[PartReport], results: Path, path: Path) -> bool:
    """Plot every paired difference in the primary metric, a panel per part.

    Args:
        parts: Parts of the study.
        results: Folder of results.
        path: PNG file to write.

    Returns:
        Whether there was anything to plot.
    """
    panels = []
    for part in parts:
        found = load_results(part, results)
        baseline = part.arms[0].name
        rows = []
        for arm in part.arms[1:]:
            seeds = common_seeds(found, [arm.name, baseline]) if baseline in found else []
            if seeds and arm.name in found:
                values = [
                    found[arm.name][s]["measures"][part.primary]
                    - found[baseline][s]["measures"][part.primary]
                    for s in seeds
                ]
                rows.append((arm.name, values, Difference.of(values)))
        if rows:
            panels.append((part, baseline, rows))
    if not panels:
        return False
    heights = [0.6 + 0.35 * len(rows) for _, _, rows in panels]
    figure, grid = plt.subplots(
        len(panels),
        1,
        figsize=(8, sum(heights) + 0.6 * len(panels)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for axes, (part, baseline, rows) in zip(grid[:, 0], panels, strict=True):
        for place, (_, values, difference) in enumerate(rows):
            axes.plot(values, [place] * len(values), "o", color="#999999", markersize=3)
            if math.isfinite(difference.low):
                axes.plot([difference.low, difference.high], [place, place], color="#0072b2")
            axes.plot(difference.mean, place, "o", color="#0072b2", markersize=6)
        axes.axvline(0, color="#444444", linewidth=0.8)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_title(f"{part.key}: {part.primary}, difference from {baseline}", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, axis="x")
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return True


def write_study() -> None:
    """Write the results of the study into docs/results/study.md."""
    write_report([report_of(part) for part in PARTS], RESULTS, PAGES / "study.md")
    print(PAGES / "study.md")


def report_of(part: Part) -> PartReport:
    """Describe a part of the study for its report.

    Args:
        part: Part of the study.

    Returns:
        What its report shows.
    """
    return PartReport(
        key=part.key,
        title=part.title,
        recipe=part.recipe,
        arms=tuple(Arm(name=arm.name, folder=arm.folder) for arm in part.all_arms()),
        seeds=part.seeds,
        primary=PRIMARY.get(part.recipe, "next_loss"),
    )


def write_report(parts: Sequence[PartReport], results: Path, page: Path) -> None:
    """Replace the lines between the two marks of a page by the present results.

    Raises ValueError where the page has no marks.

    Args:
        parts: Parts of the study.
        results: Folder of results.
        page: Markdown file with the marks; the plot is written beside it.

    Raises:
        ValueError: The page has no marks.
    """
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(
            f"{page} has no lines {BEGIN!r} and {END!r}: put them where results belong"
        )
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    figure = page.with_name("study-primary.png")
    lines = [BEGIN, ""]
    if plot_primary(parts, results, figure):
        lines += [
            f"![Paired differences in the primary measure]({figure.name})",
            "",
            "Grey: one seed. Blue: mean and 95 % interval. Losses are better to the left.",
            "",
        ]
    for part in parts:
        lines += part_lines(part, results)
    page.write_text(before + "\n".join(lines) + END + after)

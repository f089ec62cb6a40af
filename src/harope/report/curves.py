"""Plots of several trainings of each kind: curves with bands, intervals of differences."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

from harope.evaluation.statistics import Mean
from harope.report.plots import COLORS

Curve = Sequence[float]
"""One training's losses, at the points that all share."""


def plot_bands(images: Sequence[int], curves: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """Losses over images seen, and their paired differences from the first entry.

    Left the mean over the trainings with the band from the lowest to the highest; right the mean
    difference with Student's 95 % interval.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    baseline, *_ = curves
    for place, (name, runs) in enumerate(curves.items()):
        style = _style(place)
        points = list(zip(*runs, strict=True))
        left.plot(images, [sum(p) / len(p) for p in points], label=name, **style)
        band = [min(p) for p in points], [max(p) for p in points]
        left.fill_between(images, *band, color=style["color"], alpha=0.15, linewidth=0)
        if name == baseline:
            continue
        means = [
            Mean.of(pairs) for pairs in zip(*_differences(runs, curves[baseline]), strict=True)
        ]
        right.plot(images, [mean.value for mean in means], **style)
        band = [mean.low for mean in means], [mean.high for mean in means]
        right.fill_between(images, *band, color=style["color"], alpha=0.12, linewidth=0)
        right.plot(images, band[0], images, band[1], color=style["color"], linewidth=0.4)
    right.axhline(0, color="#444444", linewidth=0.8)
    left.set(xscale="log", yscale="log", xlabel="images seen", ylabel="training loss")
    right.set(xscale="log", xlabel="images seen", ylabel=f"training loss minus that of {baseline}")
    # The first steps differ by far more than all later ones.
    right.set_ylim(*_later_range(curves, baseline))
    for axes in (left, right):
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25, which="both", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    _save(figure, path)


def plot_differences(
    panels: Mapping[str, Mapping[str, Mean]], better: Mapping[str, str], path: Path
) -> None:
    """Intervals of paired differences around zero: a panel per measure, a row per contrast.

    `better` says of each measure on which side of zero the first of a contrast is better, "left" or
    "right". Intervals that exclude zero are filled.
    """
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    names = list(next(iter(panels.values())))
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(2.6 + 2.4 * columns, rows * (0.9 + 0.32 * len(names))),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axes, (measure, intervals) in zip(grid.flat, panels.items(), strict=False):
        for place, mean in enumerate(intervals.values()):
            clear = mean.low > 0 or mean.high < 0
            color = COLORS[0] if clear else "#888888"
            axes.plot([mean.low, mean.high], [place, place], color=color, linewidth=2)
            face = color if clear else "white"
            axes.plot(mean.value, place, "o", color=color, markerfacecolor=face, markersize=5)
        axes.axvline(0, color="#444444", linewidth=0.8)
        arrow = "\u2190 better" if better[measure] == "left" else "better \u2192"
        axes.set_title(measure, fontsize=9)
        axes.set_xlabel(arrow, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(alpha=0.25, axis="x", linewidth=0.5)
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    _save(figure, path)


def _differences(runs: Sequence[Curve], others: Sequence[Curve]) -> list[list[float]]:
    return [
        [mine - theirs for mine, theirs in zip(run, other, strict=True)]
        for run, other in zip(runs, others, strict=True)
    ]


def _later_range(curves: Mapping[str, Sequence[Curve]], baseline: str) -> tuple[float, float]:
    """Of the mean differences, without the first fifth of the points."""
    means = [0.0]
    for name, runs in curves.items():
        pairs = list(zip(*_differences(runs, curves[baseline]), strict=True))
        means += [sum(p) / len(p) for p in pairs[len(pairs) // 5 :]] if name != baseline else []
    low, high = min(means), max(means)
    margin = max(1e-6, 0.6 * (high - low))
    return low - margin, high + margin


def _style(place: int) -> dict[str, object]:
    """Colours first; past their end they come again, dashed."""
    again = place // len(COLORS)
    return {
        "color": COLORS[place % len(COLORS)],
        "linestyle": ("-", "--", ":")[again % 3],
        "linewidth": 1.5,
    }


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)

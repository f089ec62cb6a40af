"""Plots of paired training runs: loss curves with bands, and intervals of differences."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from harope.lab.metrics.intervals import Mean, format_mean
from harope.lab.reporting.style import (
    COLORS,
    INK,
    PAPER,
    hover,
    line_style,
    plain_axes,
    save_figure,
)

Curve = Sequence[float]
"""Losses of one run, at points common to all runs."""

WINDOW = 5
"""Number of points that a difference is averaged over."""
_NEUTRAL = "#8a8a8a"
"""Colour of intervals that include zero."""


def plot_bands(images: Sequence[int], curves: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """Plot training losses over images seen, and their paired differences from the first entry.

    The upper panel shows the mean over the runs, with a band from the lowest to the highest. The
    lower panels, one per other entry, show the difference averaged over `WINDOW` points, with
    Student's 95 % interval, without the first tenth of the images.

    Args:
        images: Images seen at each point.
        curves: Losses of all runs by name; runs with the same index are paired.
        path: SVG or PNG file to write.
    """
    baseline, *others = curves
    columns = min(2, len(others))
    rows = math.ceil(len(others) / columns)
    figure = plt.figure(figsize=(7.4, 3.6 + 2.4 * rows), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(3.6, 2.4 * rows))
    _plot_losses(upper.subplots(), images, curves)
    panels = lower.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    later = [place for place, seen in enumerate(images) if seen >= images[-1] / 10]
    for axes, name in zip(panels.flat, others, strict=False):
        differences = [_smoothed(run) for run in _differences(curves[name], curves[baseline])]
        means = [Mean.of([run[place] for run in differences]) for place in later]
        seen = [images[place] for place in later]
        color = line_style(list(curves).index(name))["color"]
        axes.fill_between(
            seen, [m.low for m in means], [m.high for m in means], color=color, alpha=0.25,
            linewidth=0,
        )  # fmt: skip
        (line,) = axes.plot(seen, [m.value for m in means], color=color, linewidth=1.7)
        hover(line, f"{name} - {baseline}, at the end: {format_mean(means[-1], '+.2g')}")
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_title(f"{name} - {baseline}", fontsize=9)
        axes.tick_params(labelsize=8)
        plain_axes(axes)
    for axes in list(panels.flat)[len(others) :]:
        axes.set_visible(False)
    lower.supxlabel("images seen", fontsize=9)
    lower.supylabel("difference of training losses", fontsize=9)
    save_figure(figure, path, dpi=120)


def _plot_losses(axes: Axes, images: Sequence[int], curves: Mapping[str, Sequence[Curve]]) -> None:
    for place, (name, runs) in enumerate(curves.items()):
        style = line_style(place)
        points = list(zip(*runs, strict=True))
        means = [sum(p) / len(p) for p in points]
        (line,) = axes.plot(images, means, label=name, **style)
        hover(line, f"{name}: loss {means[-1]:.4g} after {images[-1]:,} images")
        band = [min(p) for p in points], [max(p) for p in points]
        axes.fill_between(images, *band, color=style["color"], alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel="images seen", ylabel="training loss")
    # Labels of the ticks between powers of ten would overlap.
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=9)
    plain_axes(axes)


def _smoothed(curve: Curve) -> list[float]:
    """Average over the last `WINDOW` points, or fewer at the beginning."""
    parts = [curve[max(0, end - WINDOW) : end] for end in range(1, len(curve) + 1)]
    return [sum(part) / len(part) for part in parts]


def plot_differences(
    panels: Mapping[str, Mapping[str, Mean]], better: Mapping[str, str], path: Path
) -> None:
    """Plot intervals of paired differences: a panel per metric, a row per contrast.

    Intervals that exclude zero are coloured and their markers filled.

    Args:
        panels: Intervals by metric and contrast.
        better: For each metric the side of zero, "left" or "right", on which the first variant of a
            contrast is better.
        path: SVG or PNG file to write.
    """
    columns = min(3, len(panels))
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
        for place, (name, mean) in enumerate(intervals.items()):
            color = COLORS[0] if mean.excludes_zero else _NEUTRAL
            face = color if mean.excludes_zero else PAPER
            (bar,) = axes.plot([mean.low, mean.high], [place, place], color=color, linewidth=2)
            (dot,) = axes.plot(
                mean.value, place, "o", color=color, markerfacecolor=face, markersize=6
            )
            for artist in (bar, dot):
                hover(artist, f"{name}, {measure}: {format_mean(mean, '+.4g')}")
        axes.axvline(0, color=INK, linewidth=0.8)
        arrow = "\u2190 better" if better[measure] == "left" else "better \u2192"
        axes.set_title(measure, fontsize=9)
        axes.set_xlabel(arrow, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        plain_axes(axes, grid="x")
        axes.spines["left"].set_visible(False)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    save_figure(figure, path, dpi=120)


def _differences(runs: Sequence[Curve], others: Sequence[Curve]) -> list[list[float]]:
    return [
        [loss - other_loss for loss, other_loss in zip(run, other, strict=True)]
        for run, other in zip(runs, others, strict=True)
    ]

"""Plots of losses, scores and timings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

from harope.lab.metrics.intervals import Scores
from harope.lab.reporting.style import (
    COLORS,
    hover,
    line_style,
    marker_style,
    plain_axes,
    save_figure,
)
from harope.lab.reporting.tables import format_proportion

_SHIFT = 0.62
"""Share of a row that the models of a score are spread over."""


def plot_losses(curves: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Plot the training loss over images seen, one line per run, with logarithmic axes.

    Args:
        curves: Lines of `metrics.jsonl` with `images` and `loss`, by name of the run.
        path: SVG or PNG file to write.
    """
    figure, axes = plt.subplots(figsize=(5.7, 3.5), layout="constrained")
    for place, (name, lines) in enumerate(curves.items()):
        images, losses = [[line[key] for line in lines] for key in ("images", "loss")]
        (line,) = axes.plot(images, losses, label=name, **line_style(place))
        hover(line, f"{name}: loss {losses[-1]:.4g} after {images[-1]:,} images")
    axes.set(xscale="log", yscale="log", xlabel="images seen", ylabel="training loss")
    # Labels of the ticks between powers of ten would overlap.
    axes.xaxis.set_minor_formatter(NullFormatter())
    plain_axes(axes)
    axes.legend(frameon=False)
    save_figure(figure, path, dpi=120)


def plot_scores(columns: Mapping[str, Scores], path: Path) -> None:
    """Plot rates with Wilson's 95 % intervals: a row per score, a marker per model.

    Args:
        columns: Scores by name of the model.
        path: SVG or PNG file to write.
    """
    names = list(dict.fromkeys(name for scores in columns.values() for name in scores))
    height = 0.9 + len(names) * (0.22 + 0.13 * len(columns))
    figure, axes = plt.subplots(figsize=(5.7, height), layout="constrained")
    for place, (column, scores) in enumerate(columns.items()):
        shift = (place - (len(columns) - 1) / 2) * _SHIFT / len(columns)
        style = marker_style(place)
        for index, name in enumerate(names):
            if name not in scores:
                continue
            low, high = scores[name].interval()
            row = index + shift
            (bar,) = axes.plot([100 * low, 100 * high], [row] * 2, color=style["color"], lw=2)
            (dot,) = axes.plot(100 * scores[name].rate, row, linestyle="", markersize=6, **style)
            for artist in (bar, dot):
                hover(artist, f"{column}, {name}: {format_proportion(scores[name])}")
        axes.plot([], [], label=column, linestyle="", **style)
    axes.set(xlim=(-2, 102), xlabel="correct, %", ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.tick_params(axis="y", length=0)
    plain_axes(axes, grid="x")
    axes.spines["left"].set_visible(False)
    figure.legend(frameon=False, loc="outside upper center", ncols=min(4, len(columns)))
    save_figure(figure, path, dpi=120)


def plot_costs(sweeps: Mapping[str, Mapping[int, Mapping[str, float]]], path: Path) -> None:
    """Plot the time of every operation over each swept quantity, one panel per quantity.

    Args:
        sweeps: Seconds by quantity, its value and name of the operation.
        path: SVG or PNG file to write.
    """
    figure, grid = plt.subplots(
        1,
        len(sweeps),
        figsize=(3.4 * len(sweeps) + 1, 3.4),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    panels = grid[0]
    for panel, (axis, points) in zip(panels, sweeps.items(), strict=True):
        names = list(next(iter(points.values())))
        for place, name in enumerate(names):
            times = [1e3 * values[name] for values in points.values()]
            is_harope = name.startswith("harope")
            (line,) = panel.plot(
                list(points),
                times,
                label=name,
                color=COLORS[place % len(COLORS)],
                linestyle="-" if is_harope else ":" if name == "copy" else "--",
                linewidth=2 if is_harope else 1.2,
            )
            hover(line, f"{name}: {', '.join(f'{time:.3g} ms' for time in times)}")
        panel.set(xscale="log", yscale="log", xlabel=axis)
        panel.set_xticks(list(points), [f"{value:,}" for value in points])
        panel.set_xticks([], minor=True)
        plain_axes(panel)
    panels[0].set(ylabel="ms")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", frameon=False)
    save_figure(figure, path, dpi=120)

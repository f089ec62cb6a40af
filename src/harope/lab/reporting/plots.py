"""Plots of losses, scores and timings as PNG files, and what all plots share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

from harope.lab.metrics.intervals import Scores

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Palette of Okabe and Ito, readable with colour blindness."""
DIVERGING, SEQUENTIAL = "PuOr_r", "cividis"
"""Colour maps for values with a meaningful zero and for others, readable with red-green colour
blindness."""


def plot_losses(curves: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Plot the training loss over images seen, one line per run, with logarithmic axes.

    Args:
        curves: Lines of `metrics.jsonl` with `images` and `loss`, by name of the run.
        path: PNG file to write.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for place, (name, lines) in enumerate(curves.items()):
        images, losses = [[line[key] for line in lines] for key in ("images", "loss")]
        # Later curves are dashed, so that earlier ones show where both are equal.
        axes.plot(
            images,
            losses,
            label=name,
            color=COLORS[place % len(COLORS)],
            linestyle="-" if place == 0 else (0, (4, 1 + place)),
            linewidth=1.5,
        )
    axes.set(xscale="log", yscale="log", xlabel="images seen", ylabel="training loss")
    # Labels of the ticks between powers of ten would overlap.
    axes.xaxis.set_minor_formatter(NullFormatter())
    _finish(figure, axes, path)


def plot_scores(columns: Mapping[str, Scores], path: Path) -> None:
    """Plot rates with Wilson's 95 % intervals, grouped by score.

    Args:
        columns: Scores by name of the model.
        path: PNG file to write.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    names = list(dict.fromkeys(name for scores in columns.values() for name in scores))
    for place, (column, color) in enumerate(zip(columns, COLORS, strict=False)):
        shift = (place - (len(columns) - 1) / 2) * 0.8 / len(columns)
        for index, name in enumerate(names):
            score = columns[column].get(name)
            if score is None:
                continue
            low, high = score.interval()
            axes.plot([index + shift] * 2, [100 * low, 100 * high], color=color, linewidth=2)
            label = column if index == 0 else None
            axes.plot(index + shift, 100 * score.rate, "o", color=color, markersize=4, label=label)
    axes.set(ylim=(-3, 103), ylabel="correct, %")
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    _finish(figure, axes, path)


def plot_costs(sweeps: Mapping[str, Mapping[int, Mapping[str, float]]], path: Path) -> None:
    """Plot the time of every operation over each swept quantity, one panel per quantity.

    Args:
        sweeps: Seconds by quantity, its value and name of the operation.
        path: PNG file to write.
    """
    figure, panels = plt.subplots(
        1, len(sweeps), figsize=(3.4 * len(sweeps), 3.4), layout="constrained", sharey=True
    )
    for panel, (axis, points) in zip(panels, sweeps.items(), strict=True):
        names = list(next(iter(points.values())))
        for place, name in enumerate(names):
            times = [1e3 * values[name] for values in points.values()]
            is_harope = name.startswith("harope")
            panel.plot(
                list(points),
                times,
                label=name,
                color=COLORS[place % len(COLORS)],
                linestyle="-" if is_harope else ":" if name == "copy" else "--",
                linewidth=2 if is_harope else 1.2,
            )
        panel.set(xscale="log", yscale="log", xlabel=axis)
        panel.set_xticks(list(points), [f"{value:,}" for value in points])
        panel.set_xticks([], minor=True)
        panel.grid(alpha=0.25, which="both", linewidth=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="ms")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", frameon=False)
    save_figure(figure, path, dpi=120)


def save_figure(figure: Any, path: Path, *, dpi: int = 150) -> None:
    """Write a figure as a PNG file and close it.

    Args:
        figure: Figure of matplotlib.
        path: File to write; its folder is created.
        dpi: Pixels per inch; the default is for figures with many details.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    plt.close(figure)


def _finish(figure: Any, axes: Any, path: Path) -> None:
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save_figure(figure, path, dpi=120)

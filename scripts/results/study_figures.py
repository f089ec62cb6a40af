"""Figures of docs/results/study.md."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt

from harope.lab.reporting.style import (
    COLORS,
    INK,
    hover,
    marker_style,
    plain_axes,
    save_figure,
)
from scripts.results.study_data import (
    Difference,
    Result,
    load_results,
    paired_differences,
)
from scripts.study.study import Part


def plot_primary(parts: Sequence[Part], results: Path, path: Path) -> bool:
    """Plot every paired difference in the primary metric, a panel per part.

    Args:
        parts: Parts of the study.
        results: Folder of results.
        path: SVG or PNG file to write.

    Returns:
        Whether there was anything to plot.
    """
    panels = []
    for part in parts:
        found = load_results(part, results)
        baseline = part.all_arms[0].name
        rows = []
        for arm in part.all_arms[1:]:
            differences = paired_differences(found, arm.name, baseline, primary_of(part))
            if differences:
                values = list(differences.values())
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
        for place, (name, values, difference) in enumerate(rows):
            axes.plot(values, [place] * len(values), "o", color="#999999", markersize=3)
            shown = [f"{name} - {baseline}: {difference.mean:+.3g}"]
            if math.isfinite(difference.low):
                (bar,) = axes.plot(
                    [difference.low, difference.high], [place, place], color=COLORS[0]
                )
                shown.append(f"[{difference.low:+.3g}, {difference.high:+.3g}]")
                hover(bar, " ".join(shown))
            (dot,) = axes.plot(difference.mean, place, "o", color=COLORS[0], markersize=6)
            hover(dot, " ".join(shown))
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_title(f"{part.key}: {part.primary}, difference from {baseline}", fontsize=9)
        axes.tick_params(labelsize=8)
        plain_axes(axes, grid="x")
    save_figure(figure, path)
    return True


def plot_heads(part: Part, results: Path, path: Path, *, time: str = "0.5") -> bool:
    """Draw how far the heads of every layer attend, and how much they differ.

    Args:
        part: Part whose arms are drawn.
        results: Folder of the results.
        path: SVG or PNG file to write.
        time: Time of the diffusion at which attention was measured.

    Returns:
        Whether there was anything to draw.
    """
    found = {
        arm: runs
        for arm, runs in load_results(part, results).items()
        if all(time in run["heads"].get("attention_distance", {}) for run in runs.values())
    }
    if not found:
        return False
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    width = 0.8 / len(found)
    for place, (arm, runs) in enumerate(found.items()):
        style = marker_style(place)
        color = style["color"]
        spreads = [run["heads"]["attention_distance_std"][time] for run in runs.values()]
        layers = range(1, len(spreads[0]) + 1)
        for spread in spreads:
            left.plot(layers, spread, color=color, alpha=0.25, linewidth=1)
        mean = [fmean(values) for values in zip(*spreads, strict=True)]
        (line,) = left.plot(layers, mean, "-", label=f"{arm} ({len(runs)} seeds)", **style)
        hover(line, f"{arm}: {', '.join(f'{value:.2f}' for value in mean)} tokens")
        for run in runs.values():
            for layer, heads in zip(layers, head_distances(run, time), strict=True):
                x = layer + (place - (len(found) - 1) / 2) * width
                right.plot([x] * len(heads), heads, "_", color=color, alpha=0.7)
    left.set_title("How much the heads of a layer differ", fontsize=10)
    left.set_ylabel("standard deviation over heads (tokens)", fontsize=8)
    right.set_title("How far each head attends (one mark per head and seed)", fontsize=10)
    right.set_ylabel("mean attention distance (tokens)", fontsize=8)
    left.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.set_xlabel("layer", fontsize=8)
        axes.set_xticks(layers)
        axes.tick_params(labelsize=8)
        plain_axes(axes)
    save_figure(figure, path)
    return True


def primary_of(part: Part) -> Callable[[Result], float]:
    """Return a function that reads the primary metric of a run.

    Args:
        part: Part of the study.

    Returns:
        Function of a stored result.
    """
    return lambda run: run["measures"][part.primary]


def head_distances(run: Result, time: str) -> list[list[float]]:
    """Return the mean attention distances of a run.

    Args:
        run: Stored result.
        time: Time of the diffusion, a key of the statistics, such as `0.5`.

    Returns:
        Distances in tokens, [layer][head].
    """
    return run["heads"]["attention_distance"][time]

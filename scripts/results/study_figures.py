"""Figures of docs/results/study.md."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from scripts.results.study_data import (
    Difference,
    Result,
    load_results,
    paired_differences,
)
from scripts.study.study import Part

COLORS = ("#444444", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colour-blind safe colours (Okabe and Ito 2008)."""


def plot_primary(parts: Sequence[Part], results: Path, path: Path) -> bool:
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


def plot_heads(part: Part, results: Path, path: Path, *, time: str = "0.5") -> bool:
    """Draw how far the heads of every layer attend, and how much they differ.

    Args:
        part: Part whose arms are drawn.
        results: Folder of the results.
        path: PNG file to write.
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
        color = COLORS[place % len(COLORS)]
        spreads = [run["heads"]["attention_distance_std"][time] for run in runs.values()]
        layers = range(1, len(spreads[0]) + 1)
        for spread in spreads:
            left.plot(layers, spread, color=color, alpha=0.25, linewidth=1)
        mean = [fmean(values) for values in zip(*spreads, strict=True)]
        left.plot(layers, mean, "o-", color=color, label=f"{arm} ({len(runs)} seeds)")
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
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
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

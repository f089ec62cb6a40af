"""Report of a comparison: JSON, tables, plots and one HTML page."""

import platform
from pathlib import Path
from typing import Any

import torch

from harope._utils.atomic import write_json_atomic
from harope.lab.experiments.compare.contrasts import Comparison
from harope.lab.experiments.compare.run_metrics import run_metric
from harope.lab.experiments.compare.sample_scores import has_sample_scores
from harope.lab.experiments.compare.tables import (
    commands,
    conclusion,
    control_notes,
    difference_rows,
    interpretation,
    mean_rows,
)
from harope.lab.metrics.intervals import Mean
from harope.lab.reporting.curves import WINDOW, plot_bands, plot_differences
from harope.lab.reporting.html import Section, write_page
from harope.lab.reporting.images import write_image_grid
from harope.lab.training.serialization import to_json

DIFFERENCES = "differences.svg"
SHOWN = 60
"""Largest number of samples of each arm on the page."""


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write `compare.json`, the plots, and `report.html`, which embeds the plots.

    Args:
        comparison: Results of the comparison.
        out: Folder to write to.

    Returns:
        Path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_json_atomic(out / "compare.json", _as_json(comparison))
    draw_plots(comparison, out)
    config, arms, seeds = comparison.config, comparison.plan.arms, comparison.seeds
    encodings = [name for group in comparison.groups for name in group]
    return write_page(
        f"{config.recipe}: {', '.join(encodings)}",
        f"{conclusion(comparison)} {len(arms) * len(seeds)} runs of {config.steps:,} steps with "
        f"batch size {config.batch_size}: {len(arms)} arms with the seeds "
        f"{', '.join(map(str, seeds))}. For a given seed, all arms see the same data with the "
        f"same noise and start from the same weights, so that differences from "
        f"{' and '.join(comparison.baselines)} are paired.",
        [
            _difference_section(comparison, out),
            Section(
                title="Means over the seeds",
                text=(
                    "With Student's 95 % intervals of each arm on its own; to compare arms, use "
                    "the paired differences.",
                ),
                table=tuple(mean_rows(comparison)),
            ),
            _curve_section(comparison, out),
            Section(title="Controls", text=tuple(control_notes(comparison))),
            *_sample_sections(comparison, out),
            Section(
                title="Commands",
                text=("Each command trains one of the runs again.",),
                code="\n".join(commands(comparison)),
            ),
        ],
        out / "report.html",
    )


def draw_plots(comparison: Comparison, out: Path) -> None:
    """Write `differences.svg` and one plot of learning curves per group.

    Args:
        comparison: Results of the comparison.
        out: Folder to write to.
    """
    panels, better = {}, {}
    for name in comparison.metric_names:
        metric = run_metric(name)
        title = f"{metric.title}{', points' if metric.percent else ''}"
        panels[title] = {
            c.name: c.difference(comparison.metrics, name) for c in comparison.contrasts
        }
        better[title] = "left" if metric.lower_is_better else "right"
    plot_differences(panels, better, out / DIFFERENCES)
    images = [line["images"] for line in next(iter(comparison.curves.values()))[0]]
    for group, path in curve_plots(comparison, out).items():
        curves = {
            name: [[line["loss"] for line in run] for run in comparison.curves[name]]
            for name in _with_controls(comparison, group)
        }
        plot_bands(images, curves, path)


def curve_plots(comparison: Comparison, out: Path) -> dict[str, Path]:
    """Return the path of each group's learning curves: `curves.svg`, `curves-2.svg`, and so on.

    Args:
        comparison: Results of the comparison.
        out: Folder of the plots.

    Returns:
        Path by name of the group's baseline.
    """
    names = [
        "curves.svg",
        *(f"curves-{number}.svg" for number in range(2, len(comparison.groups) + 1)),
    ]
    return {name: out / file for name, file in zip(comparison.baselines, names, strict=True)}


def _with_controls(comparison: Comparison, baseline: str) -> list[str]:
    """Return the names of all arms in a baseline's group, including the controls."""
    arms = {arm.name: arm for arm in comparison.plan.arms}
    return [arm.name for arm in comparison.plan.arms if arm.group == arms[baseline].group]


def _difference_section(comparison: Comparison, out: Path) -> Section:
    return Section(
        title="Paired differences",
        text=tuple(interpretation(comparison)),
        table=tuple(difference_rows(comparison)),
        images=(
            (
                "Mean difference with its 95 % interval; filled and blue if it excludes zero",
                out / DIFFERENCES,
            ),
        ),
    )


def _curve_section(comparison: Comparison, out: Path) -> Section:
    return Section(
        title="Learning curves",
        text=(
            "Top: the training loss; mean over the seeds, and a band from the lowest to the "
            "highest seed. Bottom: the paired difference from the baseline, averaged over "
            f"{WINDOW} neighbouring points, with its 95 % interval; the first tenth of the images "
            "is left out.",
        ),
        images=tuple(
            (f"Loss by number of images seen, and differences from {baseline}", path)
            for baseline, path in curve_plots(comparison, out).items()
        ),
    )


def _sample_sections(comparison: Comparison, out: Path) -> list[Section]:
    """Return a section with the first samples of every arm at the first seed, if there are any."""
    if not has_sample_scores(comparison.config, comparison.scoring):
        return []
    grids = []
    for arm, runs in comparison.jobs.items():
        grid = out / "grids" / f"{runs[0].name}.png"
        samples = sorted(runs[0].samples_folder(out).glob("*.png"))[:SHOWN]
        write_image_grid(samples, grid, columns=10)
        grids.append((f"{arm}, seed {comparison.seeds[0]}", grid))
    shown = min(SHOWN, comparison.scoring.samples)
    text = f"The same {shown} classes or prompts and the same noise for every arm."
    return [Section(title="Samples", text=(text,), images=tuple(grids), zoom=1)]


def _as_json(comparison: Comparison) -> dict[str, Any]:
    def interval(mean: Mean) -> dict[str, float]:
        return {"mean": mean.value, "low": mean.low, "high": mean.high}

    return {
        "recipe": comparison.config.recipe,
        "config": to_json(comparison.config),
        "seeds": list(comparison.seeds),
        "groups": comparison.groups,
        "best_rates": dict(comparison.best_rates),
        "arms": {
            arm.name: {
                "kind": arm.kind,
                "changes": arm.changes,
                "parameters": comparison.plan.parameters[arm.name],
                "measures": list(comparison.metrics[arm.name]),
            }
            for arm in comparison.plan.arms
        },
        "differences": [
            {
                "arm": contrast.arm,
                "other": contrast.other,
                "of": contrast.subject,
                "measures": {
                    name: interval(contrast.difference(comparison.metrics, name))
                    for name in comparison.metric_names
                },
            }
            for contrast in comparison.contrasts
        ],
        "drawn": comparison.scoring.to_dict(),
        "notes": list(comparison.plan.notes),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }

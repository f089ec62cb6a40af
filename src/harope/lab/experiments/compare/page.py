"""Report of a comparison: JSON, tables, plots and one HTML page."""

import json
import platform
from pathlib import Path
from typing import Any

import torch

from harope.lab.experiments.compare.contrasts import Comparison
from harope.lab.experiments.compare.run_metrics import run_metric
from harope.lab.experiments.compare.sample_scores import has_sample_scores
from harope.lab.experiments.compare.tables import (
    commands,
    control_notes,
    difference_rows,
    interpretation,
    mean_rows,
)
from harope.lab.metrics.intervals import Mean
from harope.lab.reporting.curves import WINDOW, plot_bands, plot_differences
from harope.lab.reporting.html import Section, write_page
from harope.lab.reporting.images import grid_of_files
from harope.lab.training.serialization import to_json

DIFFERENCES = "differences.png"
SHOWN = 60
"""Number of samples of each arm on the page."""


def write_comparison(found: Comparison, out: Path) -> Path:
    """Write `compare.json`, the plots, and `report.html`, which embeds the plots.

    Args:
        found: Results of the comparison.
        out: Folder to write to.

    Returns:
        Path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.json").write_text(json.dumps(_as_json(found), indent=2) + "\n")
    draw_plots(found, out)
    runs = len(found.plan.arms) * len(found.seeds)
    return write_page(
        f"{found.config.recipe}: {', '.join(name for group in found.groups for name in group)}",
        f"{runs} runs of {found.config.steps:,} steps with batch size {found.config.batch_size}: "
        f"{len(found.plan.arms)} arms with the seeds {', '.join(map(str, found.seeds))}. For a "
        f"given seed, all arms see the same data with the same noise and start from the same "
        f"weights, so that differences from {' and '.join(found.baselines)} are paired.",
        [
            _difference_section(found, out),
            Section(
                title="Means over the seeds",
                text=(
                    "With Student's 95 % intervals of each arm on its own; to compare arms, use "
                    "the paired differences.",
                ),
                table=tuple(mean_rows(found)),
            ),
            _curve_section(found, out),
            Section(title="Controls", text=tuple(control_notes(found))),
            *_sample_sections(found, out),
            Section(
                title="Commands",
                text=("Each command trains one of the runs again.",),
                code="\n".join(commands(found)),
            ),
        ],
        out / "report.html",
    )


def draw_plots(found: Comparison, out: Path) -> None:
    """Write `differences.png` and one plot of learning curves per group.

    Args:
        found: Results of the comparison.
        out: Folder to write to.
    """
    panels, better = {}, {}
    for name in found.metric_names:
        metric = run_metric(name)
        title = f"{metric.title}{', points' if metric.percent else ''}"
        panels[title] = {c.name: c.difference(found.metrics, name) for c in found.contrasts}
        better[title] = "left" if metric.lower_is_better else "right"
    plot_differences(panels, better, out / DIFFERENCES)
    images = [line["images"] for line in next(iter(found.curves.values()))[0]]
    for group, path in curve_plots(found, out).items():
        curves = {
            name: [[line["loss"] for line in run] for run in found.curves[name]]
            for name in _with_controls(found, group)
        }
        plot_bands(images, curves, path)


def curve_plots(found: Comparison, out: Path) -> dict[str, Path]:
    """Return the path of each group's learning curves: `curves.png`, `curves-2.png`, and so on.

    Args:
        found: Results of the comparison.
        out: Folder of the plots.

    Returns:
        Path by name of the group's baseline.
    """
    names = ["curves.png", *(f"curves-{number}.png" for number in range(2, len(found.groups) + 1))]
    return {name: out / file for name, file in zip(found.baselines, names, strict=True)}


def _with_controls(found: Comparison, baseline: str) -> list[str]:
    """Return the names of all arms in a baseline's group, including the controls."""
    arms = {arm.name: arm for arm in found.plan.arms}
    return [arm.name for arm in found.plan.arms if arm.group == arms[baseline].group]


def _difference_section(found: Comparison, out: Path) -> Section:
    return Section(
        title="Paired differences",
        text=tuple(interpretation(found)),
        table=tuple(difference_rows(found)),
        pictures=(
            (
                "Mean difference with its 95 % interval; filled and blue if it excludes zero",
                out / DIFFERENCES,
            ),
        ),
        wide=True,
    )


def _curve_section(found: Comparison, out: Path) -> Section:
    return Section(
        title="Learning curves",
        text=(
            "Top: the training loss; mean over the seeds, and a band from the lowest to the "
            "highest seed. Bottom: the paired difference from the baseline, averaged over "
            f"{WINDOW} neighbouring points, with its 95 % interval; the first tenth of the images "
            "is left out.",
        ),
        pictures=tuple(
            (f"Loss by number of images seen, and differences from {baseline}", path)
            for baseline, path in curve_plots(found, out).items()
        ),
        wide=True,
    )


def _sample_sections(found: Comparison, out: Path) -> list[Section]:
    """Return a section with the first samples of every arm at the first seed, if there are any."""
    if not has_sample_scores(found.config, found.scoring):
        return []
    grids = []
    for arm, runs in found.jobs.items():
        grid = out / "grids" / f"{runs[0].name}.png"
        samples = sorted(runs[0].samples_folder(out).glob("*.png"))[:SHOWN]
        grid_of_files(samples, grid, columns=10)
        grids.append((f"{arm}, seed {found.seeds[0]}", grid))
    text = "The same classes or prompts and the same noise for every arm."
    return [Section(title="Samples", text=(text,), pictures=tuple(grids))]


def _as_json(found: Comparison) -> dict[str, Any]:
    def interval(mean: Mean) -> dict[str, float]:
        return {"mean": mean.value, "low": mean.low, "high": mean.high}

    return {
        "recipe": found.config.recipe,
        "config": to_json(found.config),
        "seeds": list(found.seeds),
        "groups": found.groups,
        "best_rates": dict(found.best_rates),
        "arms": {
            arm.name: {
                "kind": arm.kind,
                "changes": arm.changes,
                "parameters": found.plan.parameters[arm.name],
                "measures": list(found.metrics[arm.name]),
            }
            for arm in found.plan.arms
        },
        "differences": [
            {
                "arm": contrast.arm,
                "other": contrast.other,
                "of": contrast.subject,
                "measures": {
                    name: interval(contrast.difference(found.metrics, name))
                    for name in found.metric_names
                },
            }
            for contrast in found.contrasts
        ],
        "drawn": found.scoring.to_dict(),
        "notes": list(found.plan.notes),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }

"""A comparison as JSON, tables, plots and one HTML page."""

import json
import platform
from pathlib import Path
from typing import Any

import torch

from harope.lab.experiments.compare.contrasts import Comparison
from harope.lab.experiments.compare.measures import measure_of
from harope.lab.experiments.compare.sample_scores import draws
from harope.lab.experiments.compare.tables import (
    commands,
    control_notes,
    difference_rows,
    mean_rows,
    reading,
)
from harope.lab.metrics.intervals import Mean
from harope.lab.reporting.curves import WINDOW, plot_bands, plot_differences
from harope.lab.reporting.html import Section, write_page
from harope.lab.reporting.images import write_image_grid
from harope.lab.training.serialization import to_json

DIFFERENCES = "differences.png"
SHOWN = 60
"""Samples of each arm on the page."""


def write_comparison(found: Comparison, out: Path) -> Path:
    """Write compare.json, the plots and report.html, which holds all; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.json").write_text(json.dumps(_as_json(found), indent=2) + "\n")
    draw_plots(found, out)
    runs = len(found.plan.arms) * len(found.seeds)
    return write_page(
        f"{found.config.recipe}: {', '.join(name for group in found.groups for name in group)}",
        f"{runs} trainings of {found.config.steps:,} steps of {found.config.batch_size}: "
        f"{len(found.plan.arms)} arms with the seeds {', '.join(map(str, found.seeds))}. At one "
        f"seed all see the same data with the same noise and start from the same weights, so that "
        f"differences from {' and '.join(found.baselines)} are paired.",
        [
            _difference_section(found, out),
            Section(
                title="Means over the seeds",
                text=("With Student's 95 % intervals, which hold for each arm alone.",),
                table=tuple(mean_rows(found)),
            ),
            _curve_section(found, out),
            Section(title="Controls", text=tuple(control_notes(found))),
            *_picture_sections(found, out),
            Section(
                title="Every run",
                text=("Commands that train the same again, one by one.",),
                code="\n".join(commands(found)),
            ),
        ],
        out / "report.html",
    )


def draw_plots(found: Comparison, out: Path) -> None:
    """differences.png, and the learning curves of each group."""
    panels, better = {}, {}
    for name in found.measures:
        measure = measure_of(name)
        title = f"{measure.title}{', points' if measure.percent else ''}"
        panels[title] = {c.name: c.difference(found.values, name) for c in found.contrasts}
        better[title] = "left" if measure.lower_is_better else "right"
    plot_differences(panels, better, out / DIFFERENCES)
    images = [line["images"] for line in next(iter(found.curves.values()))[0]]
    for group, path in curve_plots(found, out).items():
        curves = {
            name: [[line["loss"] for line in run] for run in found.curves[name]]
            for name in _with_controls(found, group)
        }
        plot_bands(images, curves, path)


def curve_plots(found: Comparison, out: Path) -> dict[str, Path]:
    """Files with learning curves, by the baseline of their group: curves.png, curves-2.png, ..."""
    names = ["curves.png", *(f"curves-{place}.png" for place in range(2, len(found.groups) + 1))]
    return {name: out / file for name, file in zip(found.baselines, names, strict=True)}


def _with_controls(found: Comparison, baseline: str) -> list[str]:
    """All arms of a baseline's group, it first and the controls last."""
    arms = {arm.name: arm for arm in found.plan.arms}
    return [arm.name for arm in found.plan.arms if arm.group == arms[baseline].group]


def _difference_section(found: Comparison, out: Path) -> Section:
    return Section(
        title="Differences, seed by seed",
        text=tuple(reading(found)),
        table=tuple(difference_rows(found)),
        images=(
            (
                "Mean difference and its 95 % interval; filled and blue where it excludes zero",
                out / DIFFERENCES,
            ),
        ),
        wide=True,
    )


def _curve_section(found: Comparison, out: Path) -> Section:
    return Section(
        title="Learning curves",
        text=(
            "Above: the training loss, mean over the seeds and band from the lowest to the "
            f"highest. Below: the paired difference from the baseline of {WINDOW} neighbouring "
            "points, with its 95 % interval, without the first tenth of the images.",
        ),
        images=tuple(
            (f"Losses over images seen, and differences from {baseline}", path)
            for baseline, path in curve_plots(found, out).items()
        ),
        wide=True,
    )


def _picture_sections(found: Comparison, out: Path) -> list[Section]:
    """The first samples of every arm at the first seed."""
    if not draws(found.config, found.drawn):
        return []
    pictures = []
    for arm, runs in found.jobs.items():
        target = out / "grids" / f"{runs[0].name}.png"
        drawn = sorted(runs[0].samples_folder(out).glob("*.png"))[:SHOWN]
        write_image_grid(drawn, target, columns=10)
        pictures.append((f"{arm}, seed {found.seeds[0]}", target))
    text = "The same requests and the same noise for every arm."
    return [Section(title="Samples", text=(text,), images=tuple(pictures))]


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
                "measures": list(found.values[arm.name]),
            }
            for arm in found.plan.arms
        },
        "differences": [
            {
                "arm": contrast.arm,
                "other": contrast.other,
                "of": contrast.why,
                "measures": {
                    name: interval(contrast.difference(found.values, name))
                    for name in found.measures
                },
            }
            for contrast in found.contrasts
        ],
        "drawn": found.drawn.to_dict(),
        "notes": list(found.plan.notes),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }

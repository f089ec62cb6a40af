"""A comparison as JSON, tables, plots and one HTML page."""

import json
import platform
from pathlib import Path
from typing import Any

import torch

from harope.compare.drawn import draws
from harope.compare.findings import Comparison
from harope.compare.measures import measure_of
from harope.compare.tables import commands, control_notes, difference_rows, mean_rows, reading
from harope.evaluation.statistics import Mean
from harope.report.curves import WINDOW, plot_bands, plot_differences
from harope.report.page import Section, write_page
from harope.report.pictures import grid_of_files
from harope.training.codec import to_json

DIFFERENCES, CURVES = "differences.png", "curves.png"
SHOWN = 60
"""Samples of each arm on the page."""


def write_comparison(found: Comparison, out: Path) -> Path:
    """Write compare.json, the plots and report.html, which holds all; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.json").write_text(json.dumps(_as_json(found), indent=2) + "\n")
    draw_plots(found, out)
    runs = len(found.plan.arms) * len(found.seeds)
    return write_page(
        f"{found.config.recipe}: {', '.join(found.encodings)}",
        f"{runs} trainings of {found.config.steps:,} steps of {found.config.batch_size}: "
        f"{len(found.plan.arms)} arms with the seeds {', '.join(map(str, found.seeds))}. At one "
        f"seed all see the same data with the same noise and start from the same weights, so that "
        f"differences from {found.baseline} are paired.",
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
    """differences.png and curves.png."""
    panels, better = {}, {}
    for name in found.measures:
        measure = measure_of(name)
        title = f"{measure.title}{', points' if measure.percent else ''}"
        panels[title] = {c.name: c.difference(found.values, name) for c in found.contrasts}
        better[title] = "left" if measure.lower_is_better else "right"
    plot_differences(panels, better, out / DIFFERENCES)
    images = [line["images"] for line in next(iter(found.curves.values()))[0]]
    curves = {
        name: [[line["loss"] for line in run] for run in runs]
        for name, runs in found.curves.items()
    }
    plot_bands(images, curves, out / CURVES)


def _difference_section(found: Comparison, out: Path) -> Section:
    return Section(
        title="Differences, seed by seed",
        text=tuple(reading(found)),
        table=tuple(difference_rows(found)),
        pictures=(
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
            f"highest. Below: the paired difference from {found.baseline} of {WINDOW} neighbouring "
            "points, with its 95 % interval, without the first tenth of the images.",
        ),
        pictures=(("Losses over images seen", out / CURVES),),
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
        grid_of_files(drawn, target, columns=10)
        pictures.append((f"{arm}, seed {found.seeds[0]}", target))
    text = "The same requests and the same noise for every arm."
    return [Section(title="Samples", text=(text,), pictures=tuple(pictures))]


def _as_json(found: Comparison) -> dict[str, Any]:
    def interval(mean: Mean) -> dict[str, float]:
        return {"mean": mean.value, "low": mean.low, "high": mean.high}

    return {
        "recipe": found.config.recipe,
        "config": to_json(found.config),
        "seeds": list(found.seeds),
        "baseline": found.baseline,
        "best_rate": found.best_rate,
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

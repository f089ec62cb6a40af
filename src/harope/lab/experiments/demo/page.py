"""The demo's page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harope.lab.metrics.intervals import Scores
from harope.lab.reporting.html import Section, write_page
from harope.lab.reporting.plots import plot_losses, plot_scores
from harope.lab.reporting.tables import format_proportion, scores_table, text_table

TASKS = {
    "single_object": "one object: the kind is there",
    "colors": "one object: the kind in its colour",
    "single_exact": "one object: and nothing else",
    "counting": "2 to 6 objects: the number is right",
    "exact": "all pictures: everything right",
}


@dataclass(frozen=True, kw_only=True)
class DemoModel:
    """One of the four models of the demo, and what was found of it."""

    name: str
    """As the page calls it."""
    encoding: str
    """Its positional encoding."""
    parameters: int
    """All of the model's."""
    metrics: tuple[Mapping[str, Any], ...]
    """Lines of its training's metrics."""
    scores: Scores
    """Of its samples."""
    grid: Path
    """PNG of its first samples."""
    sample_seconds: float
    """What drawing and scoring took; next to nothing where samples were there already."""


def write_demo_page(
    models: Sequence[DemoModel], ceiling: Scores, out: Path, *, seconds: float, memory_gib: float
) -> Path:
    """Write `report.html` and its plots, and print the two tables."""
    columns = {model.name: model.scores for model in models} | {"ceiling": ceiling}
    plot_losses({model.name: model.metrics for model in models}, out / "losses.png")
    plot_scores(columns, out / "scores.png")
    cost = _cost_rows(models)
    print(f"\n{scores_table(columns)}\n\n{text_table(cost)}")
    print(f"\n{seconds:.0f} s in all, {memory_gib:.1f} GiB of memory at most")
    return write_page(
        "harope demo: an image generator with HARoPE, and with axial RoPE",
        "Two small diffusion transformers learned, in this run, to draw one to six shapes of a "
        "kind and colour; a released pair learned the same for longer. All four drew the same "
        "requests from the same noise, and a reader counted what came out right.",
        [
            _score_section(columns, out),
            _picture_section(models),
            _loss_section(out),
            Section(
                title="What it cost",
                text=(f"{seconds:.0f} s in all, {memory_gib:.1f} GiB of memory at most.",),
                table=tuple(tuple(row) for row in cost),
            ),
            Section(title="Go on", code=_COMMANDS),
        ],
        out / "report.html",
    )


def _score_section(columns: Mapping[str, Scores], out: Path) -> Section:
    rows = [("asked for", *columns)]
    for name, meaning in TASKS.items():
        shown = [format_proportion(scores[name], total=False) for scores in columns.values()]
        trials = next(iter(columns.values()))[name].total
        rows.append((f"{meaning} ({trials})", *shown))
    return Section(
        title="Scores",
        text=(
            "Rates with 95 % Wilson intervals. The ceiling is what the reader gives rendered "
            "scenes of the same classes.",
            "Each encoding was trained once, with one seed: the intervals cover the samples, not "
            "the training, so a difference between two columns is no evidence for an encoding.",
        ),
        table=tuple(rows),
        images=(("Rates and intervals", out / "scores.png"),),
    )


def _picture_section(models: Sequence[DemoModel]) -> Section:
    return Section(
        title="Pictures",
        text=(
            "The same requests and the same noise for every model. Three rows of ten are the "
            "single objects: circles, squares, triangles, stars and crosses, each in red, yellow, "
            "green, cyan, blue and purple; then the same with 2, 3, 4, 5, 6 copies in turn.",
        ),
        images=tuple((model.name, model.grid) for model in models),
    )


def _loss_section(out: Path) -> Section:
    return Section(
        title="Training",
        text=("Mean squared error of the velocity. The released pair saw more pictures.",),
        images=(("Loss over images seen", out / "losses.png"),),
    )


def _cost_rows(models: Sequence[DemoModel]) -> list[list[str]]:
    rows = [["", "parameters", "images seen", "training s", "images/s", "sampling s"]]
    for model in models:
        last = model.metrics[-1]
        rows.append(
            [
                model.name,
                f"{model.parameters:,}",
                f"{last['images']:,}",
                f"{last['seconds']:.0f}",
                f"{last['images'] / last['seconds']:.0f}",
                f"{model.sample_seconds:.0f}",
            ]
        )
    return rows


_COMMANDS = """harope recipes
harope train scenes-dit --encoding mixed --steps 2000 --out runs/mixed
harope sample runs/mixed --count 60 --out samples/mixed --grid mixed.png
harope evaluate scenes samples/mixed"""

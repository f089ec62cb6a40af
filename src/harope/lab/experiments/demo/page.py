"""Page of the demo."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harope.lab.metrics.intervals import Scores
from harope.lab.reporting.html import Section, write_page
from harope.lab.reporting.plots import plot_losses, plot_scores
from harope.lab.reporting.tables import format_proportion, scores_table, text_table

TASKS = {
    "single_object": "one object: the kind is present",
    "colors": "one object: the kind is present in its colour",
    "single_exact": "one object: nothing else is present",
    "counting": "2 to 6 objects: the number is right",
    "exact": "all images: everything is right",
}
"""Meaning of each score on the page."""


@dataclass(frozen=True, kw_only=True)
class DemoModel:
    """A model of the demo with its results."""

    name: str
    """Name on the page."""
    encoding: str
    """Name of the positional encoding."""
    parameters: int
    """Number of parameters."""
    metrics: tuple[Mapping[str, Any], ...]
    """Lines of the training's `metrics.jsonl`."""
    scores: Scores
    """Scores of the samples."""
    grid: Path
    """PNG file with the first samples."""
    sample_seconds: float
    """Time of sampling and scoring in seconds; close to 0 if the samples existed."""


def write_demo_page(
    models: Sequence[DemoModel],
    ceiling: Scores,
    out: Path,
    *,
    seconds: float,
    memory_gib: float | None,
) -> Path:
    """Write `report.html` and its plots, and print the tables of scores and costs.

    Args:
        models: Models in the order of columns.
        ceiling: Scores of rendered scenes, the upper limit of what the reader can give.
        out: Folder to write to.
        seconds: Total time of the demo.
        memory_gib: Peak memory of the demo in GiB; None if unknown.

    Returns:
        Path of the page.
    """
    columns = {model.name: model.scores for model in models} | {"ceiling": ceiling}
    plot_losses({model.name: model.metrics for model in models}, out / "losses.png")
    plot_scores(columns, out / "scores.png")
    cost = _cost_rows(models)
    memory = "" if memory_gib is None else f", {memory_gib:.1f} GiB peak memory"
    total = f"{seconds:.0f} s in total{memory}"
    print(f"\n{scores_table(columns)}\n\n{text_table(cost)}")
    print(f"\n{total}")
    return write_page(
        "harope demo: an image generator with HARoPE and with axial RoPE",
        "This demo trained two small diffusion transformers to generate one to six shapes of one "
        "kind and colour; two released models were trained on the same data for longer. All four "
        "models sampled the same classes from the same noise, and the scenes reader scored the "
        "samples. harope is the method of CVPR 2026, harope-v1 that of the first arXiv "
        "version.",
        [
            _score_section(columns, out),
            _sample_section(models),
            _loss_section(out),
            Section(title="Cost", text=(f"{total}.",), table=tuple(tuple(row) for row in cost)),
            Section(title="Next steps", code=_COMMANDS),
        ],
        out / "report.html",
    )


def _score_section(columns: Mapping[str, Scores], out: Path) -> Section:
    rows = [("task", *columns)]
    for name, meaning in TASKS.items():
        shown = [format_proportion(scores[name], total=False) for scores in columns.values()]
        trials = next(iter(columns.values()))[name].total
        rows.append((f"{meaning} ({trials})", *shown))
    return Section(
        title="Scores",
        text=(
            "Success rates with 95 % Wilson intervals. The ceiling is the score of rendered scenes "
            "of the same classes, which the reader itself limits.",
            "Each encoding was trained once with one seed. The intervals cover the variation of "
            "the samples, not of the training, so a difference between two columns is no evidence "
            "for an encoding.",
        ),
        table=tuple(rows),
        images=(("Success rates with intervals", out / "scores.png"),),
    )


def _sample_section(models: Sequence[DemoModel]) -> Section:
    return Section(
        title="Samples",
        text=(
            "The same classes and the same noise for every model. The first three rows of ten show "
            "single objects: circles, squares, triangles, stars and crosses, each in red, yellow, "
            "green, cyan, blue and purple. The other rows show the same kinds and colours 2 to 6 "
            "times.",
        ),
        images=tuple((model.name, model.grid) for model in models),
        pixels=True,
    )


def _loss_section(out: Path) -> Section:
    return Section(
        title="Training",
        text=("Mean squared error of the velocity. The released models saw more images.",),
        images=(("Loss by number of images seen", out / "losses.png"),),
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

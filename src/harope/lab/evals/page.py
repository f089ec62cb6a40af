"""The page of `harope evaluate`: scores with their intervals as a plot and a table."""

from collections.abc import Mapping
from pathlib import Path

from harope.lab.metrics.intervals import Scores
from harope.lab.reporting.conclusions import describe_overlap
from harope.lab.reporting.html import Section, write_page
from harope.lab.reporting.images import write_image_grid
from harope.lab.reporting.plots import plot_scores
from harope.lab.reporting.tables import score_rows
from harope.lab.sampling.stored_samples import list_numbered_images

SHOWN = 40
"""Number of samples on the page."""

MEANINGS = {
    "single_object": "among images of one object, its kind is present",
    "colors": "its kind is present in its colour",
    "single_exact": "and nothing else is in the image",
    "counting": "among images of several objects, their number is right",
    "exact": "among all images, everything is right",
}
"""Meaning of the scores of class-conditional scenes."""


def write_scores_page(
    columns: Mapping[str, Scores], out: Path, *, title: str, samples: Path | None = None
) -> Path:
    """Write `scores.html` with scores, their plot, and the first samples.

    Args:
        columns: Scores by name of the column, as the command prints them.
        out: Folder to write to, created if missing.
        title: What was scored.
        samples: Folder of the samples; None for none.

    Returns:
        Path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    plot_scores(columns, out / "scores.svg")
    names = dict.fromkeys(name for scores in columns.values() for name in scores)
    meanings = [f"{name}: {MEANINGS[name]}" for name in names if name in MEANINGS]
    sections = [
        Section(
            title="Scores",
            text=(
                "Rates with Wilson's 95 % intervals, which cover the choice of the samples, not "
                "another training. The table has the exact numbers.",
                *((f"{'; '.join(meanings)}.",) if meanings else ()),
            ),
            images=(("Rates with 95 % intervals", out / "scores.svg"),),
            table=tuple(score_rows(columns)),
        )
    ]
    images = [] if samples is None else sorted(list_numbered_images(samples))[:SHOWN]
    if images:
        write_image_grid(images, out / "samples.png", columns=10)
        sections.append(
            Section(
                title="Samples",
                text=(f"The first {len(images)} of the scored samples.",),
                images=(("Samples in order", out / "samples.png"),),
                zoom=1,
            )
        )
    return write_page(title, _lead(columns), sections, out / "scores.html")


def _lead(columns: Mapping[str, Scores]) -> str:
    column, scores = next(iter(columns.items()))
    # The score of all images, where there is one.
    name = next((name for name in ("exact", "mean") if name in scores), list(scores)[-1])
    score = scores[name]
    low, high = score.interval()
    first = (
        f"{column}, {name}: {100 * score.rate:.1f} %, between {100 * low:.1f} and "
        f"{100 * high:.1f} % with 95 % confidence ({score.total} trials)."
    )
    return f"{first} {describe_overlap(columns)}".strip()

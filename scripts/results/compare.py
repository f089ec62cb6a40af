"""Page on `harope compare scenes-dit --quick`."""

from pathlib import Path

from harope.lab.experiments.compare.main import run_comparison
from harope.lab.experiments.compare.page import DIFFERENCES, curve_plots
from harope.lab.experiments.compare.plan import CompareConfig, quick_config
from harope.lab.experiments.compare.sample_scores import SampleScoreConfig
from harope.lab.experiments.compare.tables import (
    control_notes,
    difference_rows,
    interpretation,
    mean_rows,
)
from harope.lab.recipes import get_recipe
from scripts.results.page import COMMAND, PAGES, WORK, Part, write_page

COMPARE = "harope compare scenes-dit --arms axial harope-v1 --seeds 0,1,2 --quick"


def write_compare() -> None:
    """Train or reuse the runs, and write the page with its plots to docs/results."""
    write_page(
        "compare",
        "Quick comparison of axial and HARoPE (arXiv v1)",
        f"Produced by `{COMMAND} compare`, which runs `{COMPARE}`.",
        *compare_page(WORK / "compare-scenes-dit", PAGES),
    )


def compare_page(work: Path, pages: Path) -> list[Part]:
    """Run the comparison, and copy its plots to the pages as `compare-*.svg`.

    Args:
        work: Folder of the comparison.
        pages: Folder of the plots.

    Returns:
        Paragraphs and tables of the page.
    """
    config = CompareConfig(
        arms=("axial", "harope-v1"),
        seeds=(0, 1, 2),
        rates=(0.5, 2.0),
        scoring=SampleScoreConfig(samples=120),
    )
    base = quick_config(get_recipe("scenes-dit").config())
    comparison = run_comparison(config, base, work, print)
    curves = curve_plots(comparison, work)["axial"].name
    for name in (DIFFERENCES, curves):
        (pages / f"compare-{name}").write_bytes((work / name).read_bytes())
    return [
        f"{base.steps} steps with batch size {base.batch_size}: a sixteenth of the recipe's steps "
        "and half of its batch size. The page shows what the command reports, and how the first "
        "steps differ; it says nothing about trained models.",
        "## Paired differences",
        *interpretation(comparison),
        difference_rows(comparison),
        f"![differences](compare-{DIFFERENCES})",
        "## Means over the seeds",
        mean_rows(comparison),
        "## Controls",
        *control_notes(comparison),
        "## Learning curves",
        "Top: mean over the seeds, and a band from the lowest to the highest seed. Bottom: paired "
        "difference from axial, smoothed, with its 95 % interval.",
        f"![curves](compare-{curves})",
    ]

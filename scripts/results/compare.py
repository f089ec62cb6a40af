"""The page of `harope compare scenes-dit --quick`."""

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

COMPARE = "harope compare scenes-dit --arms axial harope --seeds 0,1,2 --quick"


def write_compare() -> None:
    """What `harope compare --quick` finds."""
    write_page(
        "compare",
        "axial and HARoPE set side by side, briefly",
        f"Made by `{COMMAND} compare`, which is `{COMPARE}` with a page.",
        *compare_page(WORK / "compare-scenes-dit", PAGES),
    )


def compare_page(work: Path, pages: Path) -> list[Part]:
    """Paragraphs and tables of the page; its plots go beside it as `compare-*.png`."""
    config = CompareConfig(
        arms=("axial", "harope"),
        seeds=(0, 1, 2),
        rates=(0.5, 2.0),
        scoring=SampleScoreConfig(samples=120),
    )
    base = quick_config(get_recipe("scenes-dit").config())
    found = run_comparison(config, base, work, print)
    curves = curve_plots(found, work)["axial"].name
    for name in (DIFFERENCES, curves):
        (pages / f"compare-{name}").write_bytes((work / name).read_bytes())
    return [
        f"{base.steps} steps of {base.batch_size}: a sixteenth of the recipe's steps, half of its "
        "batch. This shows what the command reports, and how the first steps differ; it says "
        "nothing of trained models.",
        "## Differences, seed by seed",
        *interpretation(found),
        difference_rows(found),
        f"![differences](compare-{DIFFERENCES})",
        "## Means over the seeds",
        mean_rows(found),
        "## Controls",
        *control_notes(found),
        "## Learning curves",
        "Above the mean over the seeds with the band from the lowest to the highest; below the "
        "paired difference from axial, smoothed, with its 95 % interval.",
        f"![curves](compare-{curves})",
    ]

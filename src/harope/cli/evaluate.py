"""`harope evaluate`."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harope.evaluation.scenes import Scores

SUMMARY = "score a folder of samples"
EXAMPLE = "harope evaluate scenes samples/harope"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which score, of what."""
    parser.add_argument(
        "metric",
        choices=("scenes", "classes"),
        help="scenes: read the shapes back; classes: by a classifier of the real images",
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", help="folder of `harope sample`; without it, with --ceiling"
    )
    parser.add_argument(
        "--ceiling", action="store_true", help="the reader's own accuracy on rendered scenes"
    )
    parser.add_argument("--size", type=int, default=32, help="pixels, for --ceiling (32)")
    parser.add_argument("--count", type=int, default=500, help="scenes a task, for --ceiling (500)")
    parser.add_argument("--epochs", type=int, default=4, help="of the classifier, for classes (4)")
    parser.add_argument("--json", type=Path, help="also write the scores as JSON")


def run(options: argparse.Namespace) -> None:
    """Print a table with 95 % Wilson intervals."""
    from harope.report.tables import scores_table

    columns = _columns(options)
    print(scores_table(columns))
    if options.json:
        values = {
            column: {
                name: {"successes": p.successes, "total": p.total, "interval": p.interval()}
                for name, p in scores.items()
            }
            for column, scores in columns.items()
        }
        options.json.write_text(json.dumps(values, indent=2) + "\n")


def _columns(options: argparse.Namespace) -> "dict[str, Scores]":
    if (options.folder is None) == (not options.ceiling):
        raise ValueError("pass either a folder of samples, or --ceiling")
    if options.metric == "classes":
        from harope.report.classes import class_scores

        return class_scores(options.folder, options.epochs)
    from harope.report.scenes import ceiling_scores, folder_scores

    if options.ceiling:
        return ceiling_scores(options.size, options.count)
    return folder_scores(options.folder)

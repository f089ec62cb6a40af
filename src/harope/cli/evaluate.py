"""`harope evaluate`."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from harope.cli import benchmarks, distances, dpg, geneval

if TYPE_CHECKING:
    from harope.lab.metrics.intervals import Scores

SUMMARY = "score a folder of samples, or a classifier at many resolutions; distances to a reference"
EXAMPLE = "harope evaluate scenes samples/harope"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which score, of what."""
    parser.add_argument(
        "metric",
        choices=("scenes", "classes", "resolutions", "distances", "geneval", "dpg"),
        help="scenes: read the shapes back; classes: by a classifier of the real images; "
        "resolutions: top-1 of a classification run, by size and by scaling of the positions; "
        "distances: FID and its kin, to a reference; geneval, dpg: the benchmarks of prompts",
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        help="folder of `harope sample`, none with --ceiling; run folder, for resolutions; or "
        "what the official scorer wrote: results.jsonl for geneval, *_detail.txt for dpg",
    )
    parser.add_argument("--sizes", help="pixels, as 20,28,36, for resolutions")
    parser.add_argument(
        "--scaling", help="methods, as extrapolate,ntk, for resolutions (all that can be)"
    )
    parser.add_argument(
        "--weights", choices=("ema", "model"), default="ema", help="which, for resolutions (ema)"
    )
    parser.add_argument(
        "--ceiling", action="store_true", help="the reader's own accuracy on rendered scenes"
    )
    parser.add_argument("--size", type=int, default=32, help="pixels, for --ceiling (32)")
    parser.add_argument("--count", type=int, default=500, help="scenes a task, for --ceiling (500)")
    parser.add_argument("--epochs", type=int, default=4, help="of the classifier, for classes (4)")
    parser.add_argument("--json", type=Path, help="also write the scores as JSON")
    distances.add_arguments(parser)
    benchmarks.add_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Print a table: distances, or proportions with 95 % Wilson intervals."""
    others = {"distances": distances.run, "geneval": geneval.run, "dpg": dpg.run}
    if options.metric in others:
        return others[options.metric](options)
    from harope.lab.reporting.tables import scores_table

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
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(values, indent=2) + "\n")


def _columns(options: argparse.Namespace) -> "dict[str, Scores]":
    if (options.folder is None) == (not options.ceiling):
        raise ValueError("pass either a folder of samples, or --ceiling")
    if options.metric == "resolutions":
        return _resolutions(options)
    if options.metric == "classes":
        from harope.lab.evals.classification import class_scores

        return class_scores(options.folder, options.epochs)
    from harope.lab.evals.scenes import ceiling_scores, folder_scores

    if options.ceiling:
        return ceiling_scores(options.size, options.count)
    return folder_scores(options.folder)


def _resolutions(options: argparse.Namespace) -> "dict[str, Scores]":
    from harope.lab.evals.resolutions import resolution_scores

    if options.folder is None or options.sizes is None:
        raise ValueError("pass the folder of a classification run, and --sizes such as 20,28,36")
    try:
        sizes = [int(word) for word in options.sizes.split(",")]
    except ValueError:
        raise ValueError(f"--sizes {options.sizes!r} must be whole numbers, as 20,28,36") from None
    methods = options.scaling and options.scaling.split(",")
    return resolution_scores(options.folder, sizes, methods, weights=options.weights)

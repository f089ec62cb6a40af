"""`harope evaluate`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harope._utils.atomic import write_json_atomic
from harope.cli import benchmarks, distances, dpg, geneval
from harope.cli.parsing import parse_list

if TYPE_CHECKING:
    from harope.lab.metrics.intervals import Scores

SUMMARY = "score samples, a classifier at several resolutions, or distances to a reference"
EXAMPLE = "harope evaluate scenes samples/harope"
EXTRA = "train,evaluate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope evaluate`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument(
        "metric",
        choices=("scenes", "classes", "resolutions", "distances", "geneval", "dpg"),
        help="scenes: proportion of scenes that show what was requested; classes: accuracy of a "
        "classifier trained on real images; resolutions: top-1 accuracy of a classification run by "
        "image size and scaling of the positions; distances: FID and others, to a reference; "
        "geneval, dpg: text-to-image benchmarks",
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        help="folder of `harope sample` (none with --ceiling); resolutions: run folder; geneval, "
        "dpg: also results of the official scorer, results.jsonl or *_detail.txt",
    )
    parser.add_argument("--sizes", help="resolutions: image sizes in pixels, such as 20,28,36")
    parser.add_argument(
        "--scaling",
        help="resolutions: scaling methods, such as extrapolate,ntk (default: all that apply)",
    )
    parser.add_argument(
        "--weights",
        choices=("ema", "model"),
        default="ema",
        help="resolutions: EMA or raw weights",
    )
    parser.add_argument(
        "--ceiling",
        action="store_true",
        help="scenes: accuracy of the reader itself on rendered scenes",
    )
    parser.add_argument("--size", type=int, default=32, help="--ceiling: image side in pixels")
    parser.add_argument(
        "--count", type=int, default=500, help="--ceiling: number of scenes per task"
    )
    parser.add_argument(
        "--epochs", type=int, default=4, help="classes: training epochs of the classifier"
    )
    parser.add_argument("--json", type=Path, help="JSON file to write the scores to")
    distances.add_arguments(parser)
    benchmarks.add_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Print a table of distances, or of proportions with 95 % Wilson intervals.

    Args:
        options: Options of the command.
    """
    others = {"distances": distances.run, "geneval": geneval.run, "dpg": dpg.run}
    if options.metric in others:
        return others[options.metric](options)
    from harope.lab.reporting.tables import scores_table

    with benchmarks.collected_warnings() as notes:
        columns = _columns(options)
    benchmarks.print_warnings(notes)
    print(scores_table(columns))
    if options.json:
        values = {
            column: {
                name: {"successes": p.successes, "total": p.total, "interval": p.interval()}
                for name, p in scores.items()
            }
            for column, scores in columns.items()
        }
        write_json_atomic(options.json, values)


def _columns(options: argparse.Namespace) -> "dict[str, Scores]":
    if (options.folder is None) == (not options.ceiling):
        raise ValueError("pass either a folder of samples or --ceiling")
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
        raise ValueError(
            "resolutions needs the folder of a classification run and --sizes such as 20,28,36; "
            "pass both"
        )
    sizes = parse_list("--sizes", options.sizes, int, "20,28,36")
    methods = options.scaling and options.scaling.split(",")
    return resolution_scores(options.folder, sizes, methods, weights=options.weights)

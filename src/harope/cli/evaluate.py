"""`harope evaluate`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harope._utils.atomic import write_json_atomic
from harope._utils.ranks import check_one_process
from harope.cli import distances, dpg, geneval
from harope.cli.parsers import add_command, add_json_argument
from harope.cli.parsing import parse_list

if TYPE_CHECKING:
    from harope.lab.metrics.intervals import Scores

SUMMARY = "score samples, a classifier at several resolutions, or distances to a reference"
EXAMPLE = "harope evaluate scenes samples/harope"
EXTRA = "train,evaluate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tools of `harope evaluate`, each with arguments of its own.

    Args:
        parser: Parser of the command.
    """
    tools = parser.add_subparsers(
        dest="metric",
        required=True,
        metavar="METRIC",
        help="what to score; `harope evaluate METRIC --help` shows its options",
    )
    _add_scenes(tools)
    _add_classes(tools)
    _add_resolutions(tools)
    for module, name in ((distances, "distances"), (geneval, "geneval"), (dpg, "dpg")):
        tool = add_command(tools, name, module.SUMMARY, module.EXAMPLE)
        tool.set_defaults(evaluate=module.run)
        module.add_arguments(tool)


def _add_scenes(tools: Any) -> None:
    tool = add_command(
        tools,
        "scenes",
        "proportion of scenes that show what was requested",
        "harope evaluate scenes samples/harope",
    )
    tool.add_argument(
        "folder", type=Path, nargs="?", help="folder of `harope sample`; none with --ceiling"
    )
    tool.add_argument(
        "--ceiling", action="store_true", help="accuracy of the reader itself on rendered scenes"
    )
    tool.add_argument("--size", type=int, default=32, help="--ceiling: image side in pixels")
    tool.add_argument("--count", type=int, default=500, help="--ceiling: number of scenes per task")
    tool.set_defaults(evaluate=_run_scores, scores=_scenes)
    _add_output_arguments(tool)


def _add_classes(tools: Any) -> None:
    tool = add_command(
        tools,
        "classes",
        "accuracy on samples of a classifier that is trained on real images",
        "harope evaluate classes samples/digits",
    )
    tool.add_argument("folder", type=Path, help="folder of `harope sample`")
    tool.add_argument("--epochs", type=int, default=4, help="training epochs of the classifier")
    tool.set_defaults(evaluate=_run_scores, scores=_classes)
    _add_output_arguments(tool)


def _add_resolutions(tools: Any) -> None:
    tool = add_command(
        tools,
        "resolutions",
        "top-1 accuracy of a classification run by image size and scaling of the positions",
        "harope evaluate resolutions runs/fashion-vit-harope --sizes 20,28,36",
    )
    tool.add_argument("folder", type=Path, help="run folder of a classification recipe")
    tool.add_argument("--sizes", required=True, help="image sizes in pixels, such as 20,28,36")
    tool.add_argument(
        "--scaling", help="scaling methods, such as extrapolate,ntk (default: all that apply)"
    )
    tool.add_argument(
        "--weights", choices=("ema", "model"), default="ema", help="EMA or raw weights"
    )
    tool.set_defaults(evaluate=_run_scores, scores=_resolutions)
    _add_output_arguments(tool)


def _add_output_arguments(tool: argparse.ArgumentParser) -> None:
    add_json_argument(tool)
    tool.add_argument(
        "--page", type=Path, metavar="FOLDER", help="folder to write scores.html to: plot and table"
    )


def run(options: argparse.Namespace) -> None:
    """Print the scores of the chosen tool.

    Args:
        options: Options of the command.
    """
    options.evaluate(options)


def _run_scores(options: argparse.Namespace) -> None:
    """Print a table of proportions with 95 % Wilson intervals."""
    from harope.lab.reporting.tables import scores_table

    check_one_process(f"harope evaluate {options.metric}")
    columns = options.scores(options)
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
    if options.page:
        from harope.lab.evals.page import write_scores_page

        # Runs have no samples of their own, and the ceiling has no folder.
        samples = options.folder if options.metric != "resolutions" else None
        title = f"{options.metric}: {options.folder or 'rendered scenes'}"
        page = write_scores_page(columns, options.page, title=title, samples=samples)
        print(f"page: {page}")


def _scenes(options: argparse.Namespace) -> "dict[str, Scores]":
    from harope.lab.evals.scenes import ceiling_scores, folder_scores

    if (options.folder is None) == (not options.ceiling):
        raise ValueError("pass either a folder of samples or --ceiling")
    if options.ceiling:
        return ceiling_scores(options.size, options.count, quiet=False)
    return folder_scores(options.folder)


def _classes(options: argparse.Namespace) -> "dict[str, Scores]":
    from harope.lab.evals.classification import class_scores

    return class_scores(options.folder, options.epochs, quiet=False)


def _resolutions(options: argparse.Namespace) -> "dict[str, Scores]":
    from harope.lab.evals.resolutions import resolution_scores

    sizes = parse_list("--sizes", options.sizes, int, "20,28,36")
    methods = options.scaling and options.scaling.split(",")
    return resolution_scores(options.folder, sizes, methods, weights=options.weights, quiet=False)

"""`harope train`."""

import argparse
import json
from pathlib import Path

from harope.cli.parsing import parse_fields

SUMMARY = "train a recipe; repeating the command resumes the run"
EXAMPLE = "harope train scenes-dit --encoding axial --steps 2000 --out runs/axial"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope train`; others are fields of the configuration.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument("recipe", help="name of a recipe, see `harope recipes`")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/RECIPE-ENCODING)")
    parser.add_argument(
        "--smoke", action="store_true", help="take seconds: a tiny model on synthetic data"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the full configuration as JSON and exit"
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="CHECKPOINT",
        help="start a new run from a checkpoint of another one, such as "
        "RUN/checkpoints/step-00001000, with other settings; goes on with its optimizer and step, "
        "while --init takes nothing but weights",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.usage = (
        "harope train RECIPE [--out DIR] [--smoke] [--dry-run] [--from CHECKPOINT] [--quiet] "
        "[--FIELD VALUE ...]"
    )
    parser.set_defaults(takes_fields=True)


def run(options: argparse.Namespace) -> None:
    """Train, and print the paths of the results.

    Args:
        options: Parsed arguments; `fields` has the words that are configuration fields.
    """
    from harope.lab.recipes import get_recipe
    from harope.lab.training.initial_weights import with_initial_sizes
    from harope.lab.training.loop import train
    from harope.lab.training.serialization import override, to_dict

    recipe = get_recipe(options.recipe)
    changes = parse_fields(options.fields)
    name = str(changes.get("encoding", changes.get("model.encoding", "harope")))
    out = options.out or Path("runs") / f"{recipe.name}-{name}{'-smoke' if options.smoke else ''}"
    data = out.with_name(f"{out.name}-data")
    base = recipe.smoke_config(data) if options.smoke else recipe.config()
    if "init" in changes:
        base = with_initial_sizes(override(base, {"init": changes["init"]}))
    config = override(base, changes)
    if options.dry_run:
        print(json.dumps(to_dict(config), indent=2))
        return
    if options.smoke:
        recipe.make_smoke_data(data)
    elif recipe.prepare is not None:
        recipe.prepare(config)
    checkpoint = train(config, out, start=options.start, quiet=options.quiet)
    print(f"checkpoint: {checkpoint}")
    _print_report(out)


def _print_report(run: Path) -> None:
    """Print the paths of samples and adapters, and the accuracy of a classifier."""
    from harope.lab.metrics.intervals import Proportion
    from harope.lab.reporting.tables import format_proportion
    from harope.lab.training.logging import read_metrics

    if (run / "samples").exists():
        print(f"samples:    {run / 'samples'}")
    if (run / "adapters").exists():
        print(f"adapters:   {run / 'adapters'}")
    lines = read_metrics(run)
    last = lines[-1] if lines else {}
    for name in ("top1", "top5"):
        if name in last:
            score = Proportion(last[f"{name}_right"], last["held_out_images"])
            print(f"{name}:       {format_proportion(score)}")

"""`harope train`."""

import argparse
import json
from pathlib import Path

SUMMARY = "train a recipe; the same command again goes on where it stopped"
EXAMPLE = "harope train scenes-dit --encoding axial --steps 2000 --out runs/axial"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recipe, folder, and any field of the configuration as `--field value`."""
    parser.add_argument("recipe", help="name of a recipe, see `harope recipes`")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/RECIPE-ENCODING)")
    parser.add_argument("--smoke", action="store_true", help="the same in seconds, on made data")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the whole configuration as JSON and stop"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.usage = (
        "harope train RECIPE [--out DIR] [--smoke] [--dry-run] [--quiet] [--FIELD VALUE ...]"
    )
    parser.set_defaults(takes_fields=True)


def run(options: argparse.Namespace) -> None:
    """Train, and print where the run is."""
    from harope.lab.recipes import get_recipe
    from harope.lab.training.loop import train
    from harope.lab.training.serialization import override, to_dict

    recipe = get_recipe(options.recipe)
    changes = parse_fields(options.fields)
    name = str(changes.get("encoding", changes.get("model.encoding", "harope")))
    out = options.out or Path("runs") / f"{recipe.name}-{name}{'-smoke' if options.smoke else ''}"
    made = out.with_name(f"{out.name}-data")
    config = override(recipe.smoke(made) if options.smoke else recipe.config(), changes)
    if options.dry_run:
        print(json.dumps(to_dict(config), indent=2))
        return
    if recipe.prepare is not None and not options.smoke:
        recipe.prepare(config)
    checkpoint = train(config, out, quiet=options.quiet)
    print(f"checkpoint: {checkpoint}")
    _print_report(out)


def _print_report(run: Path) -> None:
    """Where the samples are, or how accurate the classifier is."""
    from harope.lab.metrics.intervals import Proportion
    from harope.lab.reporting.tables import format_proportion
    from harope.lab.training.logging import read_metrics

    if (run / "samples").exists():
        print(f"samples:    {run / 'samples'}")
    if (run / "adapters").exists():
        print(f"adapters:   {run / 'adapters'}")
    last = read_metrics(run)[-1]
    for name in ("top1", "top5"):
        if name in last:
            score = Proportion(last[f"{name}_right"], last["held_out_images"])
            print(f"{name}:       {format_proportion(score)}")


def parse_fields(words: list[str]) -> dict[str, str]:
    """`--a 1 --b=2` to {"a": "1", "b": "2"}. Raises ValueError for a name without a value."""
    fields: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ValueError(f"argument {word!r} is not expected: fields are --FIELD VALUE")
        name, has_value, value = word[2:].partition("=")
        if not has_value:
            if not rest or rest[0].startswith("--"):
                raise ValueError(f"field {word} has no value: write {word} VALUE")
            value = rest.pop(0)
        fields[name] = value
    return fields

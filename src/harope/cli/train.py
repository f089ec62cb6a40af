"""`harope train`."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harope._utils.ranks import rank
from harope.cli.fields import changed_config
from harope.cli.parsing import parse_fields

if TYPE_CHECKING:
    from harope.lab.recipes import Recipe
    from harope.lab.training.task import RunConfig

SUMMARY = "train a recipe; repeating the command resumes the run"
EXAMPLE = "harope train scenes-dit --encoding axial --steps 2000 --out runs/axial"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope train`; others are fields of the configuration.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument(
        "recipe",
        nargs="?",
        help="name of a recipe, see `harope recipes`; may be omitted with --resume, or with a "
        "--config that names it",
    )
    parser.add_argument("--out", type=Path, help="run folder (default: runs/RECIPE-ENCODING)")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML or JSON file of fields, such as the config.json of a run; fields of the command "
        "line take precedence",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run; only fields that change follow, such as --steps",
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
    parser.add_argument(
        "--smoke", action="store_true", help="take seconds: a tiny model on synthetic data"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the full configuration as JSON and exit"
    )
    parser.usage = (
        "harope train RECIPE [--out DIR] [--config FILE] [--from CHECKPOINT] [--smoke] [--dry-run] "
        "[--FIELD VALUE ...]\n       harope train --resume RUN [--FIELD VALUE ...]"
    )
    parser.epilog = f"{parser.epilog}\n\nall fields of a recipe:\n  harope train RECIPE --help"
    parser.set_defaults(takes_fields=True)


@dataclass(frozen=True)
class _Training:
    """What a command line asks to train, and where."""

    config: "RunConfig"
    out: Path
    recipe: "Recipe | None" = None
    """Recipe whose files are made first; None if they exist, or the recipe is unknown."""
    smoke_data: Path | None = None
    """Folder of the synthetic data of a smoke run."""


def run(options: argparse.Namespace) -> None:
    """Train, and print the paths of the results.

    Args:
        options: Parsed arguments; `fields` has the words that are configuration fields.
    """
    from harope.lab.training.loop import train
    from harope.lab.training.serialization import to_dict

    training = _resumed(options) if options.resume else _configured(options)
    config, recipe = training.config, training.recipe
    if options.dry_run:
        if rank() == 0:
            print(json.dumps(to_dict(config), indent=2))
        return
    if recipe is not None and training.smoke_data is None:
        _check_card(config, recipe)
    if recipe is not None and training.smoke_data is not None:
        recipe.make_smoke_data(training.smoke_data)
    elif recipe is not None and recipe.prepare is not None:
        recipe.prepare(config)
    checkpoint = train(config, training.out, start=options.start, quiet=options.quiet)
    if rank() == 0:
        print(f"checkpoint: {checkpoint}")
        _print_report(training.out)


def _check_card(config: "RunConfig", recipe: "Recipe") -> None:
    """Check the memory of the GPU, if there is one, before anything is loaded."""
    import torch

    if not torch.cuda.is_available():
        return
    from harope._utils.distributed import this_process
    from harope.lab.plan.check import check_card

    process = this_process()
    properties = torch.cuda.get_device_properties(process.device)
    check_card(
        config,
        recipe,
        name=properties.name,
        memory_bytes=properties.total_memory,
        gpus=process.num_processes,
        parallel=config.parallel,
    )


def _resumed(options: argparse.Namespace) -> _Training:
    """Return the training of a run, with the fields that change."""
    from harope.lab.training.run_dir import read_config

    folder: Path = options.resume
    given = {
        "--out": options.out,
        "--config": options.config,
        "--from": options.start,
        "--smoke": options.smoke,
    }
    for name in (name for name, value in given.items() if value):
        raise ValueError(f"--resume {folder} goes on with that run; omit {name}")
    config = read_config(folder)
    if options.recipe not in (None, config.recipe):
        raise ValueError(
            f"{folder} is a run of {config.recipe}, not of {options.recipe}; omit the recipe"
        )
    return _Training(changed_config(config, options.fields), folder)


def _configured(options: argparse.Namespace) -> _Training:
    """Return the training of a recipe or a file, with the fields that change."""
    from harope._utils.distributed import main_process_first
    from harope.cli.config_file import field_changes, read_config_file
    from harope.lab.recipes import get_recipe
    from harope.lab.training.initial_weights import with_initial_sizes
    from harope.lab.training.serialization import override

    values: dict[str, Any] = {}
    if options.config is not None:
        values = read_config_file(options.config)
        if options.recipe is None and options.config.suffix == ".json":
            return _complete(options, values)
    name = options.recipe or values.get("recipe")
    if not isinstance(name, str):
        raise ValueError("no recipe is given; name one of `harope recipes`, or --resume a run")
    recipe, changes = get_recipe(name), field_changes(values)
    given = {**changes, **parse_fields(options.fields)}
    # The command line comes last and wins, by whichever name the file has the field.
    names = [given[path] for path in given if path in ("encoding", "model.encoding")]
    encoding = names[-1] if names else "harope"
    suffix = "-smoke" if options.smoke else ""
    out = options.out or Path("runs") / f"{recipe.name}-{encoding}{suffix}"
    data = out.with_name(f"{out.name}-data") if options.smoke else None
    base = recipe.config() if data is None else recipe.smoke_config(data)
    if (init := given.get("init")) is not None:
        with main_process_first():
            base = with_initial_sizes(override(base, {"init": init}))
    return _Training(changed_config(base, options.fields, changes), out, recipe, data)


def _complete(options: argparse.Namespace, values: dict[str, Any]) -> _Training:
    """Return the training of a complete configuration, such as the config.json of a run."""
    from harope.lab.recipes import RECIPES
    from harope.lab.training.serialization import from_json, to_dict

    if options.smoke:
        raise ValueError("--smoke shrinks a recipe; name the recipe as well, or omit --smoke")
    try:
        base = from_json(values)
    except ValueError as error:
        raise ValueError(
            f"{options.config} is not the complete configuration of a run ({error}); name the "
            f"recipe that it changes"
        ) from None
    config = changed_config(base, options.fields)
    encoding = to_dict(config)["model"]["encoding"]
    out = options.out or Path("runs") / f"{config.recipe}-{encoding}"
    return _Training(config, out, RECIPES.get(config.recipe))


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

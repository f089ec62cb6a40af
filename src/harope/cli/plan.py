"""`harope plan`."""

import argparse

from harope.cli.fields import changed_config
from harope.cli.parsers import add_json_argument

SUMMARY = "compute memory, speed and price of a training, without starting it"
EXAMPLE = "harope plan imagenet-dit --gpus 8 --card h100"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope plan`; others are fields of the configuration.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument("recipe", help="name of a recipe, see `harope recipes`")
    parser.add_argument(
        "--card",
        default="h100",
        help="card: rtx-3090, rtx-4090, rtx-5090, l40s, a100-40, a100-80, h100, h200 or b200",
    )
    parser.add_argument("--gpus", type=int, default=1, help="number of cards")
    parser.add_argument(
        "--price",
        type=float,
        help="dollars per hour of one card (default: a round figure of rented cards)",
    )
    parser.add_argument(
        "--mfu",
        type=float,
        default=0.25,
        help="fraction of the card's peak that forward and backward pass reach",
    )
    parser.add_argument(
        "--parallel",
        choices=("ddp", "fsdp"),
        default="ddp",
        help="whether several cards share the images only (ddp), or the model as well (fsdp)",
    )
    add_json_argument(parser, "all numbers")
    parser.usage = (
        "harope plan RECIPE [--card CARD] [--gpus N] [--price DOLLARS] [--mfu FRACTION] "
        "[--FIELD VALUE ...]"
    )
    parser.epilog = f"{parser.epilog}\n\nall fields of a recipe:\n  harope plan RECIPE --help"
    parser.set_defaults(takes_fields=True)


def run(options: argparse.Namespace) -> None:
    """Print the plan; with `--json`, also write it.

    Args:
        options: Parsed arguments; `fields` has the words that are configuration fields.

    Raises:
        ValueError: An argument is invalid, or the card is too small; the message says what fits.
    """
    from harope._utils.atomic import write_json_atomic
    from harope._utils.progress import print_progress
    from harope.lab.plan.main import PlanConfig, format_plan, plan_recipe
    from harope.lab.recipes import get_recipe

    recipe = get_recipe(options.recipe)
    config = PlanConfig(
        card=options.card,
        gpus=options.gpus,
        price=options.price,
        mfu=options.mfu,
        parallel=options.parallel,
    )
    # Large models take a while, although only their shapes are counted.
    print_progress(f"counting the operations and the memory of {recipe.name}")
    plan = plan_recipe(changed_config(recipe.config(), options.fields), recipe, config)
    print(format_plan(plan), flush=True)
    if options.json is not None:
        write_json_atomic(options.json, plan.to_dict(), indent=1)
    if not plan.fits:
        raise ValueError(plan.too_small())

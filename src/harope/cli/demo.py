"""`harope demo`."""

import argparse
from pathlib import Path

from harope.cli.parsers import given_options

SUMMARY = "show in three minutes what HARoPE does: pictures, heads, costs and scores on one page"
EXAMPLE = "harope demo --out demo"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope demo`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to")
    parser.add_argument(
        "--steps", type=int, help="number of training steps of HARoPE's matrices (130)"
    )
    parser.add_argument(
        "--digit-steps", type=int, help="number of training steps of the model of digits (800)"
    )
    parser.add_argument(
        "--rounds", type=int, help="number of scored samples of every kind and colour (2)"
    )


def run(options: argparse.Namespace) -> None:
    """Run the demo, and print the path of the page.

    Args:
        options: Parsed arguments.
    """
    from harope._utils.progress import print_progress
    from harope.lab.experiments.demo import DemoConfig, run_demo

    config = DemoConfig(**given_options(options, "steps", "digit_steps", "rounds"))
    page = run_demo(config, options.out, print_progress)
    print(f"page: {page}")

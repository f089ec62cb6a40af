"""`harope demo`."""

import argparse
from pathlib import Path

SUMMARY = "train HARoPE and axial RoPE for a few minutes, sample, score, and write a page"
EXAMPLE = "harope demo --out demo"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope demo`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to")
    parser.add_argument(
        "--steps", type=int, default=200, help="number of training steps of each encoding"
    )
    parser.add_argument(
        "--rounds", type=int, default=4, help="number of samples of every kind and colour"
    )


def run(options: argparse.Namespace) -> None:
    """Run the demo, and print the paths of the page and the images.

    Args:
        options: Parsed arguments.
    """
    from harope.lab.experiments.demo import DemoConfig, run_demo

    config = DemoConfig(steps=options.steps, rounds=options.rounds)
    page = run_demo(config, options.out)
    images = ", ".join(str(path) for path in sorted(options.out.glob("*.png")))
    print(f"\npage: {page}\nimages: {images}")

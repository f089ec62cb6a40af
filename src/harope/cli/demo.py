"""`harope demo`."""

import argparse
from pathlib import Path

SUMMARY = "train harope and axial for minutes, sample and score them, write a page"
EXAMPLE = "harope demo --out demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and how long."""
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder (demo)")
    parser.add_argument("--steps", type=int, default=200, help="training steps each (200)")
    parser.add_argument("--rounds", type=int, default=4, help="samples of every request (4)")


def run(options: argparse.Namespace) -> None:
    """Run it, and print where to look."""
    from harope.lab.experiments.demo import DemoConfig, run_demo

    config = DemoConfig(steps=options.steps, rounds=options.rounds)
    page = run_demo(config, options.out)
    print(
        f"\nopen {page}\npictures: {', '.join(str(p) for p in sorted(options.out.glob('*.png')))}"
    )

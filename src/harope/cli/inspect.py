"""`harope inspect`."""

import argparse
from pathlib import Path

from harope.cli.parsing import parse_list
from harope.cli.progress import Stages

SUMMARY = "analyse the heads of a model: matrices, receptive fields, costs"
EXAMPLE = "harope inspect runs/scenes-dit --out heads"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope inspect`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument(
        "path",
        type=Path,
        metavar="RUN",
        help="run folder, checkpoint folder, converted folder, facebookresearch/DiT .pt file, or a "
        "file of harope.save_encoding, such as the adapters of a FLUX run",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for heads.json, plots and heads.html (default: not written)",
    )
    parser.add_argument(
        "--weights", choices=("ema", "model"), default="ema", help="EMA or raw weights"
    )
    parser.add_argument(
        "--grid",
        help="number of tokens along y and x, such as 16,16 (default: that of the training, or "
        "16,16)",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=16,
        help="number of images of the run's dataset to measure attention on; 0 for none",
    )


def run(options: argparse.Namespace) -> None:
    """Print the tables of the analysis; with `--out`, also write the page and its plots.

    Args:
        options: Parsed arguments.

    Raises:
        ValueError: An argument is invalid, or the path holds no model.
    """
    from harope.lab.analysis.inspection import inspect_model
    from harope.lab.analysis.load import load_inspected_model
    from harope.lab.analysis.page import write_heads
    from harope.lab.analysis.tables import print_tables

    if options.images < 0:
        raise ValueError(f"--images {options.images} must be 0 or more")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out {options.out} is a file; pass a folder")
    stages = Stages(2 + (options.images > 0) + (options.out is not None))
    subject = load_inspected_model(options.path, weights=options.weights, grid=_grid(options.grid))
    inspection = inspect_model(subject, num_images=options.images, log=stages)
    print(f"{options.path}: {inspection.title}")
    print_tables(inspection)
    if options.out:
        stages("plots")
        print(f"\n{write_heads(inspection, options.out)}")


def _grid(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sizes = parse_list("--grid", text, int, "16,16")
    if len(sizes) != 2 or min(sizes) < 1:
        raise ValueError(f"--grid {text!r} must be two positive integers, such as 16,16")
    return sizes[0], sizes[1]

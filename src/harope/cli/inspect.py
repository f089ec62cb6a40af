"""`harope inspect`."""

import argparse
from pathlib import Path

SUMMARY = "what the heads of a model learned: matrices, receptive fields, costs"
EXAMPLE = "harope inspect runs/scenes-dit --out heads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look at."""
    parser.add_argument(
        "path",
        type=Path,
        metavar="RUN",
        help="run, checkpoint or converted folder, .pt of the DiT family, or the file of "
        "harope.save_encoding, such as a FLUX run's adapters",
    )
    parser.add_argument(
        "--out", type=Path, help="folder for heads.json, pictures and heads.html (none)"
    )
    parser.add_argument("--weights", choices=("ema", "model"), default="ema", help="which (ema)")
    parser.add_argument("--grid", help="tokens along y and x, as 16,16 (of the training, or 16,16)")
    parser.add_argument(
        "--images",
        type=int,
        default=16,
        help="images of the run's data to measure attention on; 0 for none (16)",
    )


def run(options: argparse.Namespace) -> None:
    """Print tables; write files where asked to."""
    from harope.lab.analysis.inspection import inspect_model
    from harope.lab.analysis.load import load_inspected_model
    from harope.lab.analysis.page import write_heads
    from harope.lab.analysis.tables import print_tables

    if options.images < 0:
        raise ValueError(f"--images {options.images} must be 0 or more")
    subject = load_inspected_model(options.path, weights=options.weights, grid=_grid(options.grid))
    found = inspect_model(subject, num_images=options.images)
    print(f"{options.path}: {found.title}")
    print_tables(found)
    if options.out:
        print(f"\n{write_heads(found, options.out)}")


def _grid(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        height, width = (int(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"--grid {text!r} must be two whole numbers, as 16,16") from None
    if min(height, width) < 1:
        raise ValueError(f"--grid {text!r} must be positive, as 16,16")
    return height, width

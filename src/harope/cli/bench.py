"""`harope bench`."""

import argparse
from pathlib import Path

from harope.cli.progress import Stages

SUMMARY = "measure the cost of the encodings, with targets and other libraries for comparison"
EXAMPLE = "harope bench --quick"
EXTRA = "bench"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope bench`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument(
        "--quick",
        action="store_true",
        help="take three minutes: fewer rounds, smaller batches, and no variation of sizes",
    )
    parser.add_argument("--threads", type=int, default=2, help="number of CPU threads")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="device (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for bench.json and bench.png (default: not written)"
    )


def run(options: argparse.Namespace) -> None:
    """Run the benchmark and print its tables.

    Args:
        options: Parsed arguments.
    """
    import torch

    from harope._utils.progress import print_progress
    from harope.lab.bench.main import BenchConfig, count_parts, format_report, run_bench

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    config = BenchConfig(quick=options.quick, threads=options.threads, device=device)
    print_progress("loading the libraries that are compared")
    stages = Stages(count_parts(config))
    report = run_bench(config, options.out, stages, print_progress)
    print(format_report(report))

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
        help="take three minutes: fewer rounds, and no variation of sizes",
    )
    parser.add_argument("--threads", type=int, default=2, help="number of CPU threads")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device")
    parser.add_argument(
        "--out", type=Path, help="folder for bench.json and bench.png (default: not written)"
    )


def run(options: argparse.Namespace) -> None:
    """Run the benchmark and print its tables.

    Args:
        options: Parsed arguments.
    """
    from harope.lab.bench.main import BenchConfig, count_parts, format_report, run_bench

    config = BenchConfig(quick=options.quick, threads=options.threads, device=options.device)
    print(format_report(run_bench(config, options.out, Stages(count_parts(config)))))

"""`harope bench`."""

import argparse
from pathlib import Path

SUMMARY = "measure what the encodings cost, beside their goals and their peers"
EXAMPLE = "harope bench --quick"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How thorough, where, and what is written."""
    parser.add_argument("--quick", action="store_true", help="in three minutes, without sweeps")
    parser.add_argument("--threads", type=int, default=2, help="of torch on the CPU (2)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where (cpu)")
    parser.add_argument("--out", type=Path, help="folder for bench.json and bench.png")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    from harope.lab.bench.main import BenchConfig, format_report, run_bench

    config = BenchConfig(quick=options.quick, threads=options.threads, device=options.device)
    print(format_report(run_bench(config, options.out)))

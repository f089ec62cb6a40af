"""The runs of the study as the last part of a check, in the time that is left."""

import argparse
import os
from pathlib import Path

from benchmarks.gpu.bench import Bench, Result

PARTS = "A,B"
"""Parts of the study that are worth the first minutes."""
RESERVE = 60.0
"""Seconds for the runs that have begun when the budget ends."""


def study(bench: Bench) -> Result:
    """Train runs of the study until the budget of the check is spent.

    Args:
        bench: Budget, and the file of the report, next to which the folder `study` is written.

    Returns:
        Seconds and images per second of each arm; the results are in `study/study.json`.
    """
    # The study needs more packages than the other parts.
    from benchmarks.gpu.study import run

    folder = Path("gpu-study") if bench.out is None else bench.out.parent / "study"
    options = argparse.Namespace(
        out=folder,
        work=None,
        parts=PARTS,
        seeds=None,
        steps=None,
        budget=max(0.0, bench.seconds_left() - RESERVE),
        processes=max(1, min(8, (os.cpu_count() or 1) // 2)),
        tiny=bench.tiny,
    )
    report = run(options)
    return {"arms": report["arms"], "seconds": report["seconds"], "runs": len(report["results"])}

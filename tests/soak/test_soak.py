"""The short form of `make soak`: a few faults of every kind, none of them lost or silent."""

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_no_fault_is_lost_or_silent():
    command = [sys.executable, "-m", "soak", "--short"]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    sums = done.stdout.partition("| **sum** |")[2].split("|")
    assert int(sums[0]) > 25

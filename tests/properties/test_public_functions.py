"""Public functions answer, or name the argument that they refuse, whatever they are given."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_any_value_is_answered_or_refused_by_name():
    """In a process of its own: the checks of annotations that tests turn on come first here."""
    command = [sys.executable, "-m", "support.public_calls"]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

"""The script that runs the study: it finds the driver in work trees of both layouts."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "study" / "study.sh"
LAYOUTS = ("scripts/study/study.py", "benchmarks/study.py")


def run(study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STUDY": str(study)}
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def make_tree(study: Path, *drivers: str) -> None:
    """A work tree whose interpreter prints its arguments instead of executing them."""
    python = study / "tree/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    for driver in drivers:
        (study / "tree" / driver).parent.mkdir(parents=True)
        (study / "tree" / driver).write_text("")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_driver_is_found_in_both_layouts(layout, tmp_path):
    make_tree(tmp_path, layout)
    done = run(tmp_path, "status")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("not running\n")
    assert f"{tmp_path}/tree/{layout} plan --work {tmp_path}/runs" in done.stdout


def test_the_new_layout_is_preferred(tmp_path):
    make_tree(tmp_path, *LAYOUTS)
    assert f"{tmp_path}/tree/{LAYOUTS[0]} plan" in run(tmp_path, "status").stdout


def test_a_work_tree_without_a_driver_is_an_error(tmp_path):
    done = run(tmp_path, "status")
    assert done.returncode == 2
    assert "has no study.py; start the study first" in done.stderr


def test_an_unknown_command_is_answered_with_the_usage(tmp_path):
    done = run(tmp_path, "begin")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: scripts/study/study.sh start|")

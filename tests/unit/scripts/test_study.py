"""The script that runs the study in a work tree of its own."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "study" / "study.sh"
DRIVER = "scripts/study/study.py"


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


def test_the_status_is_that_of_the_work_tree(tmp_path):
    make_tree(tmp_path, DRIVER)
    done = run(tmp_path, "status")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("not running\n")
    assert f"{tmp_path}/tree/{DRIVER} plan --work {tmp_path}/runs" in done.stdout


def test_a_work_tree_without_a_driver_is_an_error(tmp_path):
    done = run(tmp_path, "status")
    assert done.returncode == 2
    assert "does not exist; start the study first" in done.stderr


def test_an_unknown_command_is_answered_with_the_usage(tmp_path):
    done = run(tmp_path, "begin")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: scripts/study/study.sh start|")

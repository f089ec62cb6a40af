import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.page import checked_page

COMMAND = ("compare", "scenes-dit", "--arms", "axial", "harope", "--seeds", "0,1", "--controls",
           "none", "--smoke", "--workers", "2", "--out", "out")  # fmt: skip


def test_encodings_are_compared_and_a_second_call_goes_on(harope, tmp_path):
    first = harope(*COMMAND).stdout
    assert "4/4" in first
    assert "harope - axial" in first
    assert first.splitlines()[-1] == "page: out/report.html"
    # Two plots and the samples of two arms.
    text = (tmp_path / "out/report.html").read_text()
    checked_page(text)
    assert (text.count("<svg "), text.count("<img")) == (2, 2)
    values = (tmp_path / "out/compare.json").read_text()
    assert len(json.loads(values)["arms"]["harope"]["measures"]) == 2

    (tmp_path / "out/runs/harope-1/measures.json").unlink()
    second = harope(*COMMAND).stdout
    assert "3 of 4 runs are already finished" in second
    assert "[1/1] harope-1" in second
    assert (tmp_path / "out/compare.json").read_text() == values


def test_bad_input_is_one_line(harope):
    done = harope("compare", "scenes-dit", "--smoke", "--arms", "axial", "haropo", code=2)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("harope: error: ")
    assert "did you mean 'harope'" in lines[0]


def running_jobs(folder: Path) -> list[str]:
    """Command lines of the jobs of a comparison in a folder, from /proc."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
            here = path.with_name("cwd").readlink() == folder
        except OSError:
            continue
        if here and "harope.lab.experiments.compare.job" in words:
            lines.append(" ".join(words))
    return lines


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_comparison_takes_its_runs_with_it_and_goes_on(number, harope, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    with subprocess.Popen(
        [sys.executable, "-m", "harope.cli.main", *COMMAND],
        cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        while "[1/4]" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        errors = process.communicate()[1]
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        words = f"stopped by {number.name}; repeat the command to resume the comparison"
        assert errors.splitlines() == [f"harope: {words}"]
    # A killed comparison cannot end its runs: they notice it themselves.
    patience = time.monotonic() + (60 if number == signal.SIGKILL else 0)
    while running_jobs(tmp_path) and time.monotonic() < patience:
        time.sleep(0.1)
    assert running_jobs(tmp_path) == []
    again = harope(*COMMAND).stdout
    assert "of 4 runs are already finished" in again
    assert again.splitlines()[-1] == "page: out/report.html"

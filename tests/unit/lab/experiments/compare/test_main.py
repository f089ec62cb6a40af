"""A comparison as a whole: its lock, its signals, and results that do not belong together."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from harope._utils.interruption import InterruptedBySignalError
from harope.lab.experiments.compare import main
from harope.lab.experiments.compare.job import MEASURES_FILE
from harope.lab.experiments.compare.main import run_comparison
from harope.lab.experiments.compare.plan import CompareConfig
from support.compare import SCENES, SIX

CONFIG = CompareConfig(
    arms=("axial", "harope"), seeds=(0, 1), wide=False, rates=(), scoring=SIX, workers=1
)
HOLDER = """
import sys
from harope._utils.folder_lock import lock_folder
with lock_folder(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.readline()
"""


def test_two_comparisons_cannot_use_one_folder(tmp_path):
    out, command = tmp_path / "out", [sys.executable, "-c", HOLDER]
    with subprocess.Popen(
        [*command, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match=rf"out is in use by process {holder.pid} on \S+"):
            run_comparison(CONFIG, SCENES, out, print)
        holder.stdin.close()


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"holds no comparison, but letter\.txt: choose another"):
        run_comparison(CONFIG, SCENES, tmp_path, print)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_error_with_the_exit_code_of_shells(number, tmp_path, monkeypatch):
    monkeypatch.setattr(main, "run_jobs", lambda *_, **__: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    message = f"stopped by {number.name}; repeat the command to resume the comparison"
    with pytest.raises(InterruptedBySignalError, match=message) as error:
        run_comparison(CONFIG, SCENES, tmp_path / "out", lambda line: None)
    assert error.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert not (tmp_path / "out" / ".lock").exists()


def test_results_with_different_metrics_are_named(tmp_path, monkeypatch):
    def pretend(jobs, out, environments, log, *, nice):
        for job in jobs:
            metrics = {"next_loss": 1.0} | ({} if job.name == "harope-1" else {"top1": 0.5})
            job.run_folder(out).mkdir(parents=True)
            values = {"job": job.to_dict(), "measures": metrics}
            (job.run_folder(out) / MEASURES_FILE).write_text(json.dumps(values))

    monkeypatch.setattr(main, "run_jobs", pretend)
    with pytest.raises(ValueError, match=r"runs/harope-1/measures\.json .*\(top1\); delete it"):
        run_comparison(CONFIG, replace(SCENES, steps=2), tmp_path / "out", lambda line: None)

"""Processes side by side, with a script in the place of a training."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harope._utils.interruption import InterruptedBySignalError, stopped_by_signals
from harope.lab.experiments.compare import pool
from harope.lab.experiments.compare.job import MEASURES_FILE
from harope.lab.experiments.compare.pool import (
    last_line,
    run_jobs,
    visible_gpus,
    worker_environments,
)
from support.compare import tiny_job

SCRIPT = """
import json, os, sys, time
from pathlib import Path
path = Path(sys.argv[1]); out = path.parents[1]; job = json.loads(path.read_text())
(out / "times").mkdir(exist_ok=True)
begun = time.time(); time.sleep(0.3)
if job["drawn"]["samples"] == 13:
    print("first words", file=sys.stderr); print("out of luck", file=sys.stderr); sys.exit(2)
mark = [begun, time.time(), os.environ.get("OMP_NUM_THREADS"), sys.argv[2]]
(out / "times" / f"{job['name']}.json").write_text(json.dumps(mark))
run = out / "runs" / job["name"]; run.mkdir(parents=True)
(run / "measures.json").write_text(json.dumps({"job": job, "measures": {"next_loss": 1.0}}))
"""


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, str(script)))
    return tmp_path / "out"


def test_all_are_carried_out_as_many_at_a_time_as_there_are_places(scripted):
    jobs, said = [tiny_job(seed=seed) for seed in range(4)], []
    run_jobs(jobs, scripted, [{"OMP_NUM_THREADS": "3"}] * 2, said.append)
    assert all(job.metrics(scripted) == {"next_loss": 1.0} for job in jobs)
    marks = [json.loads(path.read_text()) for path in (scripted / "times").iterdir()]
    assert {mark[2] for mark in marks} == {"3"}
    together = [sum(a[0] < moment < a[1] for a in marks) for b in marks for moment in b[:2]]
    assert max(together) <= 1  # Besides the one whose begin or end it is.
    assert len(said) == 4
    assert said[-1].startswith("[4/4] ")


def test_finished_ones_are_not_done_again(scripted):
    jobs, said = [tiny_job(seed=seed) for seed in range(3)], []
    run_jobs(jobs[:1], scripted, [{}], said.append)
    written = (jobs[0].run_folder(scripted) / MEASURES_FILE).stat().st_mtime_ns
    run_jobs(jobs, scripted, [{}], said.append)
    assert (jobs[0].run_folder(scripted) / MEASURES_FILE).stat().st_mtime_ns == written
    assert "1 of 3 runs are already finished" in said


def test_one_that_fails_is_named_after_the_others_have_ended(scripted):
    bad = tiny_job("axial", samples=13)
    good = [tiny_job(seed=seed) for seed in range(2)]
    with pytest.raises(
        ValueError, match=r"1 of 3 runs failed; axial-0 failed with: out of luck"
    ) as error:
        run_jobs([bad, *good], scripted, [{}], lambda line: None)
    assert "repeat the command to resume" in str(error.value)
    assert all(job.metrics(scripted) is not None for job in good)
    assert "first words" in bad.log(scripted).read_text()


def test_an_interruption_ends_the_processes(scripted):
    script = scripted.parent / "script.py"
    script.write_text("import time; time.sleep(60)")

    jobs, begun = [tiny_job(seed=seed) for seed in range(2)], time.monotonic()
    said: list[str] = []
    # Workers of the test run ignore the signal of the keyboard.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_jobs(jobs, scripted, [{}] * 2, said.append)
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begun < 20
    # Runs that were stopped are not reported as failures.
    assert said == []


def test_a_process_that_does_not_end_is_killed(scripted, monkeypatch):
    script = scripted.parent / "script.py"
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    script.write_text(f"{ignoring}print('ready', flush=True); time.sleep(60)")
    monkeypatch.setattr(pool, "PATIENCE", 0.5)
    job, begun = tiny_job(), time.monotonic()

    def interrupt() -> None:
        while not (job.log(scripted).exists() and "ready" in job.log(scripted).read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with (
        pytest.raises(InterruptedBySignalError, match="stopped by SIGTERM; go on") as error,
        stopped_by_signals("go on"),
    ):
        run_jobs([job], scripted, [{}], lambda line: None)
    assert error.value.exit_code == 143
    assert time.monotonic() - begun < 50


def test_cores_are_shared_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(pool, "visible_gpus", list)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert worker_environments(2) == [{"OMP_NUM_THREADS": "4"}] * 2
    assert worker_environments(None) == [{"OMP_NUM_THREADS": "1"}] * 8
    assert worker_environments(16) == [{"OMP_NUM_THREADS": "1"}] * 16
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert worker_environments(2) == [{"OMP_NUM_THREADS": "5"}] * 2


def test_gpus_are_dealt_out_in_turn(monkeypatch):
    monkeypatch.setattr(pool, "visible_gpus", lambda: ["4", "6"])
    assert [place["CUDA_VISIBLE_DEVICES"] for place in worker_environments(None)] == ["4", "6"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in worker_environments(3)] == ["4", "6", "4"]


def test_visible_gpus_are_those_that_were_chosen(monkeypatch):
    monkeypatch.setattr(pool.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert visible_gpus() == ["GPU-a", "GPU-b"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["0", "1"]


def test_the_last_line_says_why(tmp_path):
    (tmp_path / "log").write_text("a\nValueError: b\n\n")
    assert last_line(tmp_path / "log") == "ValueError: b"
    (tmp_path / "log").write_text("")
    assert last_line(tmp_path / "log") == "no message"


def test_processes_are_told_their_niceness(scripted):
    run_jobs([tiny_job()], scripted, [{}], lambda line: None, nice=7)
    (mark,) = [json.loads(path.read_text()) for path in (scripted / "times").iterdir()]
    assert mark[3] == "7"


CHILD = """
import sys, time
from harope.lab.experiments.compare.job import exit_with_parent
exit_with_parent(int(sys.argv[1]))
time.sleep(99)
"""
PARENT = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())])
print(child.pid, flush=True)
time.sleep(99)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_a_run_ends_when_the_comparison_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    with parent:
        child = int(parent.stdout.readline())
        # Long enough for a child that fails to be gone.
        time.sleep(3)
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
    patience = time.monotonic() + 30
    while alive(child) and time.monotonic() < patience:
        time.sleep(0.1)
    assert not alive(child)

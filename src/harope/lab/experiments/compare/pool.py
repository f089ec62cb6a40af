"""Jobs carried out side by side, each by a process of its own."""

import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from harope.lab.experiments.compare.job import Job

Environment = dict[str, str]

COMMAND = (sys.executable, "-m", "harope.lab.experiments.compare.job")
"""What carries out a job's file."""


def worker_environments(workers: int | None) -> list[Environment]:
    """What each of the processes side by side gets: a GPU, or a share of the CPU's cores.

    `workers` None: one per GPU, or one per core where there is none. OMP_NUM_THREADS is kept where
    it is set.
    """
    gpus = visible_gpus()
    if gpus:
        count = workers or len(gpus)
        return [{"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} for place in range(count)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = workers or cores or 1
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (cores or 1) // count)))
    return [{"OMP_NUM_THREADS": threads}] * count


def visible_gpus() -> list[str]:
    """Their numbers or names, as CUDA_VISIBLE_DEVICES wants them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return chosen.split(",")[:count] if chosen else [str(index) for index in range(count)]


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    environments: Sequence[Environment],
    say: Callable[[str], None],
    *,
    nice: int = 0,
) -> None:
    """Carry out the jobs that are not finished yet, as many at a time as there are environments.

    They start in the order given. `nice` is added to the niceness of their processes.

    Raises ValueError, after all others have ended, where jobs failed: with the first one's reason.
    """
    missing = [job for job in jobs if job.metrics(out) is None]
    if len(missing) < len(jobs):
        say(f"{len(jobs) - len(missing)} of {len(jobs)} runs are there already")
    crew = _Crew(out, environments, say, total=len(missing), nice=nice)
    failed = crew.work(missing)
    if failed:
        job, reason = failed[0]
        raise ValueError(
            f"{len(failed)} of {len(jobs)} runs failed, {job.name} by: {reason} "
            f"(see {job.log(out)}; the same command goes on)"
        )


class _Crew:
    """Threads that wait for processes."""

    def __init__(
        self,
        out: Path,
        environments: Sequence[Environment],
        say: Callable[[str], None],
        total: int,
        nice: int,
    ) -> None:
        self.out, self.say, self.total, self.nice = out, say, total, nice
        self.done = 0
        self.stopped = False
        self.size = len(environments)
        self.free: queue.SimpleQueue[Environment] = queue.SimpleQueue()
        for environment in environments:
            self.free.put(environment)
        self.running: set[subprocess.Popen[bytes]] = set()

    def work(self, jobs: Sequence[Job]) -> list[tuple[Job, str]]:
        """The jobs that failed, each with its last line; interrupted, it ends the processes."""
        with ThreadPoolExecutor(self.size) as threads:
            futures = [threads.submit(self._carry_out, job) for job in jobs]
            try:
                reasons = [future.result() for future in futures]
            except BaseException:
                self.stop()
                raise
        return [(job, why) for job, why in zip(jobs, reasons, strict=True) if why is not None]

    def stop(self) -> None:
        """End the processes; what they wrote stays, and the next call goes on from there."""
        self.stopped = True
        for process in list(self.running):
            process.terminate()

    def _carry_out(self, job: Job) -> str | None:
        """None, or why it failed."""
        if self.stopped:
            return "stopped"
        environment, started = self.free.get(), time.monotonic()
        try:
            code = self._process(job, environment)
        finally:
            self.free.put(environment)
        self.done += 1
        end = "" if code == 0 else f", failed with exit code {code}"
        self.say(f"[{self.done}/{self.total}] {job.name}: {time.monotonic() - started:.0f} s{end}")
        return None if code == 0 else last_line(job.log(self.out))

    def _process(self, job: Job, environment: Environment) -> int:
        log = job.log(self.out)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [*COMMAND, str(job.write(self.out)), str(self.nice), str(os.getpid())]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, env={**os.environ, **environment}
            )
            self.running.add(process)
            try:
                return process.wait()
            finally:
                self.running.discard(process)


def last_line(path: Path) -> str:
    """Of a log, which is where an error says what it is."""
    lines = path.read_text(errors="replace").split("\n")
    written = [line.strip() for line in lines if line.strip()]
    return written[-1] if written else "no message"

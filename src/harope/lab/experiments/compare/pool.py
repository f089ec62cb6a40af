"""Parallel execution of jobs, each in a process of its own."""

import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import torch

from harope._utils.progress import Progress
from harope.lab.experiments.compare.job import Job
from harope.lab.training.logging import read_metrics

Environment = dict[str, str]
"""Environment variables to set for a process."""

COMMAND = (sys.executable, "-m", "harope.lab.experiments.compare.job")
"""Command that carries out a job file."""
_SECONDS_BETWEEN_LOOKS = 2.0
"""How often the logs of the runs are read for their progress."""

PATIENCE = 60.0
"""Seconds that interrupted processes have to write a checkpoint before they are killed."""


def worker_environments(workers: int | None) -> list[Environment]:
    """Assign each parallel process a GPU, or its number of CPU threads.

    Args:
        workers: Number of parallel processes; None for one per GPU, or one per CPU core without a
            GPU.

    Returns:
        Environment variables of each process: `CUDA_VISIBLE_DEVICES`, with GPUs in turn, or
        `OMP_NUM_THREADS`, which is left as it is if it is already set.
    """
    gpus = visible_gpus()
    if gpus:
        count = workers or len(gpus)
        return [{"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} for index in range(count)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = workers or cores or 1
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (cores or 1) // count)))
    return [{"OMP_NUM_THREADS": threads}] * count


def visible_gpus() -> list[str]:
    """Return the identifiers of the visible GPUs, in the format of `CUDA_VISIBLE_DEVICES`.

    Returns:
        Indices or UUIDs as text; empty without a GPU.
    """
    selected = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return selected.split(",")[:count] if selected else [str(index) for index in range(count)]


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    environments: Sequence[Environment],
    log: Callable[[str], None],
    *,
    nice: int = 0,
) -> None:
    """Carry out the jobs that are not finished yet, one process per environment at a time.

    Args:
        jobs: Jobs, started in this order.
        out: Folder of the comparison.
        environments: Environment variables of each parallel process, see `worker_environments`.
        log: Called with each line of progress.
        nice: Niceness to add to the processes.

    Raises:
        ValueError: Jobs failed. It is raised after all others have finished, with the reason of the
            first failure.
    """
    missing = [job for job in jobs if job.metrics(out) is None]
    if len(missing) < len(jobs):
        log(f"{len(jobs) - len(missing)} of {len(jobs)} runs are already finished")
    pool = _ProcessPool(out, environments, log, jobs=missing, nice=nice)
    failed = pool.run()
    if failed:
        job, reason = failed[0]
        raise ValueError(
            f"{len(failed)} of {len(jobs)} runs failed; {job.name} failed with: {reason} "
            f"(see {job.log(out)}; repeat the command to resume)"
        )


class _ProcessPool:
    """Pool of processes, each awaited by a thread."""

    def __init__(
        self,
        out: Path,
        environments: Sequence[Environment],
        log: Callable[[str], None],
        jobs: Sequence[Job],
        nice: int,
    ) -> None:
        self.out, self.log, self.jobs, self.nice = out, log, jobs, nice
        self.finished = 0
        self.stopped = False
        self.size = len(environments)
        self.free: queue.SimpleQueue[Environment] = queue.SimpleQueue()
        for environment in environments:
            self.free.put(environment)
        self.running: set[subprocess.Popen[bytes]] = set()
        steps = sum(job.config.steps for job in jobs)
        self.progress = Progress(steps, "steps of all runs", done=self._steps_done())

    def run(self) -> list[tuple[Job, str]]:
        """Run the jobs and return those that failed, each with the last line of its log.

        An interruption terminates the processes. Those that take longer than `PATIENCE`, and all
        of them after a second interruption, are killed.
        """
        with ThreadPoolExecutor(self.size) as threads, self.progress:
            futures = [threads.submit(self._carry_out, job) for job in self.jobs]
            try:
                reasons = self._wait(futures)
            except BaseException:
                try:
                    self.stop()
                    wait(futures, PATIENCE)
                finally:
                    for process in list(self.running):
                        process.kill()
                raise
        return [(job, why) for job, why in zip(self.jobs, reasons, strict=True) if why is not None]

    def _wait(self, futures: Sequence["Future[str | None]"]) -> list[str | None]:
        """Wait for the jobs and show their progress; raises what a thread has raised."""
        while True:
            done, pending = wait(futures, _SECONDS_BETWEEN_LOOKS, FIRST_EXCEPTION)
            for future in done:
                future.result()
            if not pending:
                return [future.result() for future in futures]
            self.progress.update(self._steps_done() - self.progress.done)

    def _steps_done(self) -> int:
        """Add up the steps that the runs have logged."""
        done = 0
        for job in self.jobs:
            # A line may be incomplete while the run writes it.
            with suppress(ValueError, OSError):
                lines = read_metrics(job.run_folder(self.out))
                done += lines[-1]["step"] if lines else 0
        return done

    def stop(self) -> None:
        """Terminate the processes; a later call resumes from their checkpoints."""
        self.stopped = True
        for process in list(self.running):
            process.terminate()

    def _carry_out(self, job: Job) -> str | None:
        """Run a job and return None, or the reason of its failure."""
        if self.stopped:
            return "stopped"
        environment, started = self.free.get(), time.monotonic()
        try:
            code = self._run_process(job, environment)
        finally:
            self.free.put(environment)
        if self.stopped:
            return "stopped"
        self.finished += 1
        seconds = time.monotonic() - started
        failure = "" if code == 0 else f", failed with exit code {code}"
        with self.progress.cleared():
            self.log(f"[{self.finished}/{len(self.jobs)}] {job.name}: {seconds:.0f} s{failure}")
        return None if code == 0 else last_line(job.log(self.out))

    def _run_process(self, job: Job, environment: Environment) -> int:
        log_file = job.log(self.out)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        command = [*COMMAND, str(job.write(self.out)), str(self.nice), str(os.getpid())]
        with log_file.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, env={**os.environ, **environment}
            )
            self.running.add(process)
            if self.stopped:
                process.terminate()
            try:
                return process.wait()
            finally:
                self.running.discard(process)


def last_line(path: Path) -> str:
    """Return the last line of a log that is not blank, which names the error of a failed run.

    Args:
        path: Log file.

    Returns:
        The line without surrounding blanks, or `no message` if the log is empty.
    """
    lines = path.read_text(errors="replace").split("\n")
    messages = [line.strip() for line in lines if line.strip()]
    return messages[-1] if messages else "no message"

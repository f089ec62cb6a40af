"""Train the study of docs/results/study.md on one GPU.

    PYTHONPATH=src:. python benchmarks/gpu/study.py --out DIR [--parts A,B] [--seeds 10]
        [--budget SECONDS] [--steps N] [--tiny]

The models of an arm of class-conditional generation differ in their weights and in their images,
but not in their operations, so all seeds of an arm are trained as one batch of models
(`torch.vmap`), each with its own optimizer, learning rate schedule and moving average. Several
processes train different arms at the same time. Models of timm and diffusers (D, F) are trained
one run per process. Every training ends as an ordinary run folder, which is sampled, scored and
analysed as `harope compare` does.

Images are rendered on the CPU before training, once per seed. The training is not compiled:
compiling an arm is expected to take longer than it saves. Arms begin in order of priority until
the budget is spent.

Writes DIR/study.json with the results of all runs, in the format of
docs/results/study/RECIPE/RUN.json, and the time that each arm took. `python
benchmarks/gpu/study.py --store DIR/study.json` copies the results into docs/results/study-gpu.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.seed_training import Images, train_together
from benchmarks.gpu.stand_ins import STAND_INS
from harope._utils.atomic import write_json_atomic
from harope.lab.experiments.compare.job import Job, run_job
from harope.lab.recipes.recipe import shrink_dit
from harope.lab.training.tasks.class_conditional import TrainConfig
from scripts.study.study import GPU_PARTS, PARTS, Part, select_parts

STORE = Path("docs/results/study-gpu")
RENDER_STEPS = 100
"""Steps whose images are rendered by one call."""


def carry_out(jobs: Sequence[Job], work: Path, images: Images, deadline: float) -> dict[str, Any]:
    """Train and measure some runs.

    Args:
        jobs: All seeds of an arm of class-conditional generation, or a single run.
        work: Folder of run folders and samples.
        images: Rendered images of class-conditional generation.
        deadline: Value of `time.time()` after which nothing is begun.

    Returns:
        Results by RECIPE/RUN and seconds; speed and `device_difference` of runs that were trained
        together; `error` if an exception ended the runs; or `skipped` after the deadline.
    """
    began = time.time()
    report: dict[str, Any] = {}
    results: dict[str, Any] = {}
    if began > deadline:
        return {"skipped": True, "results": {}}
    try:
        if isinstance(jobs[0].config, TrainConfig):
            report |= train_together(jobs, work, images)
            report["training_seconds"] = round(time.time() - began, 1)
        for job in jobs:
            run_job(job, work)
            results[f"{job.config.recipe}/{job.name}"] = job.result(work)
    except Exception as error:  # The other arms are worth their time on the device.
        report["error"] = f"{type(error).__name__}: {error}"[:500]
    return report | {"seconds": round(time.time() - began, 1), "results": results}


def arms_of(part: Part) -> Iterator[list[Job]]:
    """Divide the runs of a part among processes.

    Args:
        part: Part of the study.

    Yields:
        All seeds of an arm of class-conditional generation, or a single run of another task.
    """
    jobs = part.jobs()
    if not isinstance(part.base(), TrainConfig):
        yield from ([job] for job in jobs)
        return
    arms = len(jobs) // len(part.seeds)
    for index in range(arms):
        yield jobs[index::arms]


def plan(options: argparse.Namespace) -> dict[str, list[Job]]:
    """Plan the arms of the chosen parts.

    Args:
        options: Arguments of the command.

    Returns:
        The jobs of every arm by its name, in order of priority. An arm that parts share is planned
        once, with the most seeds.

    Raises:
        ValueError: A part is unknown, or has no tiny form.
    """
    arms: dict[str, list[Job]] = {}
    known = (*PARTS, *GPU_PARTS)
    for part in select_parts(options.parts, known, steps=options.steps, seeds=options.seeds):
        if options.tiny and not isinstance(part.base(), TrainConfig):
            raise ValueError(
                f"part {part.key!r} has no tiny form: leave it out, or leave out --tiny"
            )
        for jobs in arms_of(part):
            if options.tiny:
                jobs = [_shrunk(job) for job in jobs]
            name = f"{part.recipe}/{jobs[0].name}"
            if len(jobs) > len(arms.get(name, ())):
                arms[name] = jobs
    return arms


def _shrunk(job: Job) -> Job:
    """Return the job with a small model and few samples."""
    assert isinstance(job.config, TrainConfig)
    config = replace(shrink_dit(job.config), steps=job.config.steps, log_every=2)
    return replace(job, config=config, scoring=replace(job.scoring, samples=6))


def render_images(pool: ProcessPoolExecutor, images: Images, arms: Sequence[list[Job]]) -> None:
    """Render the images of all seeds of class-conditional generation.

    Args:
        pool: Processes that render.
        images: Files to write.
        arms: Jobs of the arms; others than those of class-conditional generation are ignored.
    """
    configs = {
        job.config.seed: job.config
        for jobs in arms
        for job in jobs
        if isinstance(job.config, TrainConfig)
    }
    rendered: list[Future[None]] = []
    for seed, config in configs.items():
        images.create(config, seed)
        for start in range(0, config.steps, RENDER_STEPS):
            steps = range(start, min(start + RENDER_STEPS, config.steps))
            rendered.append(pool.submit(images.render, config, seed, steps))
    for future in rendered:
        future.result()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train and measure all arms, and write the report after every arm.

    Args:
        options: Arguments of the command.

    Returns:
        Content of study.json.

    Raises:
        ValueError: A part is unknown, or has no tiny form.
    """
    deadline = time.time() + options.budget
    began = time.time()
    arms = plan(options)
    report: dict[str, Any] = {
        "device": _device(),
        "stand_ins": list(STAND_INS),
        "arms": {},
        "results": {},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(dir=options.work) as folder,
        ProcessPoolExecutor(options.processes, mp_context=context) as pool,
    ):
        work, images = Path(folder), Images(Path(folder))
        render_images(pool, images, list(arms.values()))
        report["rendering_seconds"] = round(time.time() - began, 1)
        futures = {
            name: pool.submit(carry_out, jobs, work, images, deadline)
            for name, jobs in arms.items()
        }
        for name, future in futures.items():
            arm = future.result()
            report["results"] |= arm.pop("results")
            report["arms"][name] = arm
            report["seconds"] = round(time.time() - began, 1)
            print(f"{report['seconds']:6.1f} s  {name}: {json.dumps(arm)}", flush=True)
            write_json_atomic(options.out / "study.json", report, indent=None)
    return report


def store(path: Path, folder: Path = STORE) -> None:
    """Copy the results of a report into a folder, RECIPE/RUN.json each.

    Args:
        path: File study.json.
        folder: Folder of the results.
    """
    for name, result in json.loads(path.read_text())["results"].items():
        target = folder / f"{name}.json"
        write_json_atomic(target, result, indent=None)
        print(target)


def main(arguments: list[str]) -> int:
    """Execute the command.

    Args:
        arguments: Command-line arguments.

    Returns:
        Exit code: 0, 1 if an arm failed, or 2 after a wrong argument.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="folder of study.json")
    parser.add_argument("--store", type=Path, help="copy the results of this study.json and stop")
    parser.add_argument("--work", type=Path, help="folder for images and runs, removed at the end")
    parser.add_argument("--parts", default="A,B,A1,A2,C,E,D,F", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, help="seeds of every arm (default: as planned)")
    parser.add_argument("--steps", type=int, help="steps of every run (default: as planned)")
    parser.add_argument(
        "--budget", type=float, default=400, help="seconds after which no arm begins (%(default)s)"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=max(1, min(8, (os.cpu_count() or 1) // 2)),
        help="arms at the same time (default: %(default)s)",
    )
    parser.add_argument("--tiny", action="store_true", help="small models, without D and F")
    options = parser.parse_args(arguments)
    if options.store:
        store(options.store)
        return 0
    if options.out is None:
        parser.error("--out is missing: pass the folder of study.json")
    try:
        report = run(options)
    except ValueError as error:
        print(f"study: error: {error}", file=sys.stderr)
        return 2
    return int(any("error" in arm for arm in report["arms"].values()))


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

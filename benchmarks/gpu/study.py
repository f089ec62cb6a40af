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
compiling an arm takes longer than it saves. Arms begin in order of priority until the budget is
spent.

Writes DIR/study.json with the results of all runs, in the format of
docs/results/study/RECIPE/RUN.json, and the time that each arm took. `python
benchmarks/gpu/study.py --store DIR/study.json` copies the results into docs/results/study-gpu.
"""

import argparse
import copy
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call

# Before harope.lab, which imports what this module stands in for.
from benchmarks.gpu.stand_ins import STAND_INS
from harope._utils.atomic import write_json_atomic
from harope.lab.data.dataset import loader
from harope.lab.data.registry import open_dataset
from harope.lab.experiments.compare.job import Job, run_job
from harope.lab.recipes.recipe import shrink_dit
from harope.lab.training.logging import MetricsLogger
from harope.lab.training.loop import Trainer
from harope.lab.training.run_dir import open_run
from harope.lab.training.task import noise_for_step
from harope.lab.training.tasks import create_task
from harope.lab.training.tasks.class_conditional import ClassConditional, TrainConfig
from scripts.study.study import GPU_PARTS, PARTS, Part

STORE = Path("docs/results/study-gpu")
RENDER_STEPS = 100
"""Steps whose images are rendered by one call."""
TOLERANCE = 1e-3
"""Largest difference of outputs of about 1 between a trained model on the device and on the CPU."""


@dataclass(frozen=True)
class Images:
    """Files with the training images of every seed, rendered beforehand.

    Attributes:
        folder: Folder of the files.
    """

    folder: Path

    def create(self, config: TrainConfig, seed: int) -> None:
        """Create the files of a seed, without content."""
        shape = (config.steps, config.batch_size, *open_dataset(config.data, seed).shape)
        for name, kind, size in (("images", "float32", shape), ("labels", "int64", shape[:2])):
            np.lib.format.open_memmap(self._path(name, seed), "w+", dtype=kind, shape=size)

    def render(self, config: TrainConfig, seed: int, steps: range) -> None:
        """Render the images of some steps into the files of a seed."""
        source = open_dataset(config.data, seed)
        batches = loader(source, batch_size=config.batch_size, start_step=steps.start)
        images, labels = self.open(seed, "r+")
        for step in steps:
            batch = next(batches)
            images[step], labels[step] = batch[0].numpy(), batch[1].numpy()

    def open(self, seed: int, mode: Any = "r") -> tuple[np.ndarray, np.ndarray]:
        """Open images (steps, batch, channels, height, width) and labels (steps, batch)."""
        images, labels = (
            np.lib.format.open_memmap(self._path(name, seed), mode) for name in ("images", "labels")
        )
        return images, labels

    def _path(self, name: str, seed: int) -> Path:
        return self.folder / f"{name}-{seed}.npy"


class Loss(nn.Module):
    """The training loss of class-conditional generation as a module, to be called with any weights.

    Args:
        task: Task whose model and process it uses.
    """

    def __init__(self, task: ClassConditional) -> None:
        super().__init__()
        self.model, self.process = task.model, task.process
        self.penalty = task.config.regularization

    def forward(
        self, x0: Tensor, labels: Tensor, times: Tensor, noise: Tensor, dropped: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss, and that loss with the penalty on singular values."""

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return self.model(x, t, labels, drop_labels=dropped)

        loss = self.process.losses(denoise, x0, noise, times)["loss"].mean()
        return loss, loss + self.penalty * self.model.regularization()


class SeedTrainer:
    """Trains runs that differ in their seed only, as one batch of models.

    Args:
        configs: Their configurations.
        folders: Run folder of each.
        images: Their images.
    """

    def __init__(
        self, configs: Sequence[TrainConfig], folders: Sequence[Path], images: Images
    ) -> None:
        self.accelerator, self.config, self.folders = Accelerator(), configs[0], folders
        self.images = [images.open(config.seed) for config in configs]
        self.trainers = []
        for config, folder in zip(configs, folders, strict=True):
            torch.manual_seed(config.seed)
            task = create_task(config, self.accelerator.device)
            self.trainers.append(Trainer(task, open_run(config, folder), self.accelerator))
            task.model.train()
        self.tasks = [cast(ClassConditional, trainer.task) for trainer in self.trainers]
        # Only the structure is used: weights are given with every call.
        skeleton = copy.deepcopy(Loss(self.tasks[0])).to("meta")

        def losses(weights: dict[str, Tensor], *batch: Tensor) -> tuple[Tensor, Tensor]:
            return functional_call(skeleton, weights, batch)

        self.losses = torch.vmap(losses, randomness="error")

    def train(self) -> float:
        """Train to the end and write the run folders; return images per second over all runs."""
        config, started = self.config, time.perf_counter()
        loggers = [
            MetricsLogger(
                self.accelerator, trainer.config, folder, 0, 0.0, title=folder.name, show=False
            )
            for trainer, folder in zip(self.trainers, self.folders, strict=True)
        ]
        for step in range(config.steps):
            for logger, loss in zip(loggers, self.train_step(step), strict=True):
                logger.add(step + 1, {"loss": loss}, None)
            if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
                for logger in loggers:
                    logger.write(step + 1, time.perf_counter() - started)
        seconds = time.perf_counter() - started
        for trainer, logger in zip(self.trainers, loggers, strict=True):
            logger.close()
            trainer.step, trainer.seconds = config.steps, seconds
            trainer.save()
        return config.steps * config.batch_size * len(self.trainers) / seconds

    def train_step(self, step: int) -> Tensor:
        """Update all models; return their losses (runs,)."""
        batches = [
            self._batch(task, files, step)
            for task, files in zip(self.tasks, self.images, strict=True)
        ]
        own = [dict(task.model.named_parameters()) for task in self.tasks]
        weights = {f"model.{name}": torch.stack([p[name] for p in own]) for name in own[0]}
        losses, objectives = self.losses(weights, *map(torch.stack, zip(*batches, strict=True)))
        objectives.sum().backward()
        for trainer in self.trainers:
            trainer.update(step)
        return losses.detach()

    def _batch(
        self, task: ClassConditional, files: tuple[np.ndarray, np.ndarray], step: int
    ) -> tuple[Tensor, ...]:
        """Return images, labels, times, noise, and whose labels are dropped."""
        config, device = task.config, self.accelerator.device
        x0, labels = (torch.from_numpy(np.array(file[step])).to(device) for file in files)
        times, noise, uniform = noise_for_step(task.process, x0, config, step, 0)
        return x0, labels, times, noise, uniform < config.model.label_dropout


@torch.no_grad()
def device_difference(task: ClassConditional) -> float:
    """Return the largest difference between the outputs of a model on its device and on the CPU.

    Kernels that are used on the device only would otherwise be trusted without a check.
    """
    images, labels = task.source.samples(range(8))
    times = torch.linspace(0.1, 0.9, 8)
    model = task.model.eval()
    device = next(model.parameters()).device
    found = model(images.to(device), times.to(device), labels.to(device)).cpu()
    expected = copy.deepcopy(model).cpu()(images, times, labels)
    return float((found - expected).abs().max())


def train_together(jobs: Sequence[Job], work: Path, images: Images) -> dict[str, float]:
    """Train the runs of one arm together; return images per second and `device_difference`.

    Raises:
        RuntimeError: The trained models compute something else on the device than on the CPU.
    """
    configs = [cast(TrainConfig, job.config) for job in jobs]
    trainer = SeedTrainer(configs, [job.run_folder(work) for job in jobs], images)
    speed = trainer.train()
    difference = device_difference(trainer.tasks[0])
    if not difference < TOLERANCE:
        raise RuntimeError(f"outputs on the device differ from those on the CPU by {difference}")
    return {"images_per_second": round(speed, 1), "device_difference": difference}


def carry_out(jobs: Sequence[Job], work: Path, images: Images, deadline: float) -> dict[str, Any]:
    """Train and measure some runs; return their results, and an error in place of an exception.

    Nothing is done after the deadline, a value of `time.time()`.
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
    """Yield what one process carries out: all seeds of an arm of a DiT, or a single run."""
    jobs = part.jobs()
    if not isinstance(part.base(), TrainConfig):
        yield from ([job] for job in jobs)
        return
    arms = len(jobs) // len(part.seeds)
    for index in range(arms):
        yield jobs[index::arms]


def plan(options: argparse.Namespace) -> dict[str, list[Job]]:
    """Return the jobs of every arm by its name, in order of priority; parts may share arms.

    Raises:
        ValueError: A part is unknown, or has no tiny form.
    """
    known = {part.key: part for part in (*PARTS, *GPU_PARTS)}
    arms: dict[str, list[Job]] = {}
    for key in options.parts.split(","):
        if key not in known:
            raise ValueError(f"part {key!r} is unknown; available: {', '.join(known)}")
        part = known[key]
        if options.tiny and not isinstance(part.base(), TrainConfig):
            raise ValueError(f"part {key!r} has no tiny form: leave it out, or leave out --tiny")
        if options.seeds:
            part = replace(part, seeds=tuple(range(options.seeds)))
        if options.steps:
            part = replace(part, steps=options.steps)
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
    """Render the images of all seeds of class-conditional generation."""
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
    """Train and measure all arms; return the report, which is also written after every arm."""
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
    """Copy the results of a report into a folder, RECIPE/RUN.json each."""
    for name, result in json.loads(path.read_text())["results"].items():
        target = folder / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(target, result, indent=None)
        print(target)


def main(arguments: list[str]) -> int:
    """Execute the command; return 0, 1 if an arm failed, or 2 after a wrong argument."""
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
    parser.add_argument("--tiny", action="store_true", help="small models, for a test on a CPU")
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

"""Training of runs that differ in their seed only, as one batch of models.

Their weights and images differ but not their operations, so one forward and backward pass serves
all of them (`torch.vmap`). Each run has its own optimizer, learning rate schedule and EMA, and ends
as an ordinary run folder.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call

# Before harope.lab, which imports what it stands in for.
import benchmarks.gpu.stand_ins  # noqa: F401 (imported for its effect)
from harope.lab.data.dataset import loader
from harope.lab.data.registry import open_dataset
from harope.lab.experiments.compare.job import Job
from harope.lab.training.logging import MetricsLogger
from harope.lab.training.loop import Trainer
from harope.lab.training.run_dir import open_run
from harope.lab.training.task import noise_for_step
from harope.lab.training.tasks import create_task
from harope.lab.training.tasks.class_conditional import ClassConditional, TrainConfig

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
        """Create the files of a seed, without content.

        Args:
            config: Configuration of the training.
            seed: Its seed.
        """
        shape = (config.steps, config.batch_size, *open_dataset(config.data, seed).shape)
        for name, kind, size in (("images", "float32", shape), ("labels", "int64", shape[:2])):
            np.lib.format.open_memmap(self._path(name, seed), "w+", dtype=kind, shape=size)

    def render(self, config: TrainConfig, seed: int, steps: range) -> None:
        """Render the images of some steps into the files of a seed.

        Args:
            config: Configuration of the training.
            seed: Its seed.
            steps: Consecutive steps.
        """
        source = open_dataset(config.data, seed)
        batches = loader(source, batch_size=config.batch_size, start_step=steps.start)
        images, labels = self.open(seed, "r+")
        for step in steps:
            batch = next(batches)
            images[step], labels[step] = batch[0].numpy(), batch[1].numpy()

    def open(self, seed: int, mode: Any = "r") -> tuple[np.ndarray, np.ndarray]:
        """Open the files of a seed.

        Args:
            seed: Seed of the training.
            mode: Mode of `numpy.memmap`, such as "r".

        Returns:
            Images (steps, batch, channels, height, width), float32, and labels (steps, batch),
            int64.
        """
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
        """Compute the loss of a batch.

        Args:
            x0: Images (batch, channels, height, width).
            labels: Their classes (batch,).
            times: Times of the process (batch,).
            noise: Noise of the shape of x0.
            dropped: Whose labels are replaced by the null class (batch,).

        Returns:
            Mean loss, and that loss with the penalty on singular values.
        """

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
        """Train to the end and write the run folders.

        Returns:
            Images per second over all runs.
        """
        config, started = self.config, time.perf_counter()
        loggers = [
            MetricsLogger(
                self.accelerator,
                replace(trainer.config, report_to=()),
                trainer.model,
                {},
                folder,
                0,
                0.0,
                title=folder.name,
                show=False,
            )
            for trainer, folder in zip(self.trainers, self.folders, strict=True)
        ]
        for step in range(config.steps):
            for logger, loss in zip(loggers, self.train_step(step), strict=True):
                logger.add(step + 1, {"loss": loss}, None)
            if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
                for logger in loggers:
                    # The images lie in memory-mapped files, so nothing waits for them.
                    logger.write(step + 1, time.perf_counter() - started, 0.0)
        seconds = time.perf_counter() - started
        for trainer, logger in zip(self.trainers, loggers, strict=True):
            logger.close()
            trainer.step, trainer.seconds = config.steps, seconds
            trainer.save()
        return config.steps * config.batch_size * len(self.trainers) / seconds

    def train_step(self, step: int) -> Tensor:
        """Update all models.

        Args:
            step: Number of steps done before.

        Returns:
            Their losses (runs,).
        """
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
    """Compare the outputs of a trained model on its device with those on the CPU.

    Kernels that are used on the device only would otherwise be trusted without a check.

    Args:
        task: Task with the model and its data.

    Returns:
        Largest absolute difference over eight images.
    """
    images, labels = task.source.samples(range(8))
    times = torch.linspace(0.1, 0.9, 8)
    model = task.model.eval()
    device = next(model.parameters()).device
    found = model(images.to(device), times.to(device), labels.to(device)).cpu()
    expected = copy.deepcopy(model).cpu()(images, times, labels)
    return float((found - expected).abs().max())


def train_together(jobs: Sequence[Job], work: Path, images: Images) -> dict[str, float]:
    """Train the runs of one arm together.

    Args:
        jobs: One job per seed.
        work: Folder of run folders.
        images: Rendered images of the seeds.

    Returns:
        `images_per_second` over all runs, and `device_difference` of the first.

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

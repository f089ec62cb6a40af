"""Class-conditional diffusion as a task."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harope.diffusion.generate import generate
from harope.lab.data.image_io import save_grid
from harope.lab.data.registry import open_dataset
from harope.lab.training.config import TrainConfig
from harope.lab.training.step_rng import draws_of_step
from harope.lab.training.task import Task, TensorBatch, check_fit
from harope.models.dit.model import DiT


class Denoising(Task):
    """A DiT that learns to remove noise; labels are dropped for classifier-free guidance.

    Raises ValueError when data and model do not fit.
    """

    config: TrainConfig
    model: DiT

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        source = open_dataset(config.data, config.seed)
        check_fit(
            source,
            in_channels=config.model.in_channels,
            patch_size=config.model.patch_size,
            num_classes=config.model.num_classes or None,
        )
        model = DiT(replace(config.model, input_size=source.shape[1:])).to(device)
        model.gradient_checkpointing = config.gradient_checkpointing
        super().__init__(config, source, model, title=config.model.encoding)
        self.process = config.create_process()

    def losses(
        self, network: Callable[..., Tensor], batch: TensorBatch, step: int, first: int
    ) -> dict[str, Tensor]:
        """The process' losses at random times, with random noise and dropped labels."""
        config, (x0, labels) = self.config, batch
        draws = draws_of_step(
            self.process, x0, seed=config.seed, step=step, first=first, batch_size=config.batch_size
        )
        dropped = draws.uniform < config.model.label_dropout
        condition = (labels, dropped) if config.model.num_classes else ()
        return self.process.losses(
            lambda x, t: network(x, t, *condition), x0, draws.noise, draws.times
        )

    def model_config(self) -> dict[str, Any]:
        """The DiT's."""
        return self.model.config.to_dict()

    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Draw `num_samples` samples, the same labels and seeds every time, into one PNG.

        Latents are shown as they are: their first three channels as colours.
        """
        count, classes = self.config.num_samples, self.config.model.num_classes
        samples = generate(
            self.model,
            self.process,
            shape=self.source.shape,
            labels=[index * classes // count for index in range(count)] if classes else None,
            null_class=self.config.model.null_class,
            seeds=range(count),
            config=self.config.sampling,
            device=next(self.model.parameters()).device,
        )
        save_grid(samples, run / "samples" / f"step-{step:08d}.png")
        return {}

"""What a training step computes: a batch of images and labels to a loss."""

from collections.abc import Callable

import torch
from torch import Tensor

from harope.data.source import Batch
from harope.diffusion import Process
from harope.models.dit import DiT


class Denoising:
    """Class-conditional denoising: one loss per image, with times, noise and dropped labels.

    Random numbers are drawn for the batch of all processes and cut to this one's share, so that
    training is the same whatever the number of processes.
    """

    def __init__(self, process: Process, model: DiT, *, seed: int, rank: int, world_size: int):
        self.process, self.config, self.seed = process, model.config, seed
        self.rank, self.world_size = rank, world_size

    def losses(self, model: Callable[..., Tensor], batch: Batch, number: int) -> dict[str, Tensor]:
        """Per-image losses of batch `number` (0, 1, 2, ... over the training), key "loss" first."""
        x0, labels = batch
        generator = generator_for(self.seed, number, x0.device)
        count = len(x0) * self.world_size
        share = slice(self.rank * len(x0), (self.rank + 1) * len(x0))
        times = self.process.sample_times(count, generator, x0.device)[share]
        noise = torch.randn(count, *x0.shape[1:], generator=generator, device=x0.device)[share]
        condition = self._condition(labels, generator, count, share)
        return self.process.losses(lambda x, t: model(x, t, *condition), x0, noise, times)

    def _condition(
        self, labels: Tensor, generator: torch.Generator, count: int, share: slice
    ) -> tuple[Tensor, ...]:
        if not self.config.num_classes:
            return ()
        uniform = torch.rand(count, generator=generator, device=labels.device)[share]
        return labels, uniform < self.config.label_dropout


def generator_for(seed: int, number: int, device: torch.device) -> torch.Generator:
    """A generator of its own for every batch, so that a resumed run draws what it would have."""
    # An odd multiplier mixes seed and number; torch's own seeding scrambles the rest.
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9) % 2**63
    return torch.Generator(device).manual_seed(mixed)

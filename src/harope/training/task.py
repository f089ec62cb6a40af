"""What a training step computes: a batch of images and labels to a loss."""

from collections.abc import Callable

import torch
from torch import Tensor

from harope.data.source import Batch
from harope.diffusion import Process
from harope.models.dit import DiT


class Denoising:
    """Class-conditional denoising: one loss per image, with times, noise and dropped labels.

    Random numbers are drawn for the whole batch of a step and cut to the part at hand, so that
    training is the same whatever the number of processes and the parts of a batch.
    """

    def __init__(self, process: Process, model: DiT, *, seed: int, batch_size: int) -> None:
        self.process, self.config = process, model.config
        self.seed, self.batch_size = seed, batch_size

    def losses(
        self, model: Callable[..., Tensor], part: Batch, step: int, first: int
    ) -> dict[str, Tensor]:
        """Per-image losses, key "loss" first, of the images from `first` on in the step's batch."""
        x0, labels = part
        generator = generator_for(self.seed, step, x0.device)
        share = slice(first, first + len(x0))
        times = self.process.sample_times(self.batch_size, generator, x0.device)[share]
        shape = (self.batch_size, *x0.shape[1:])
        noise = torch.randn(shape, generator=generator, device=x0.device)[share]
        uniform = torch.rand(self.batch_size, generator=generator, device=x0.device)[share]
        dropped = uniform < self.config.label_dropout
        condition = (labels, dropped) if self.config.num_classes else ()
        return self.process.losses(lambda x, t: model(x, t, *condition), x0, noise, times)


def generator_for(seed: int, step: int, device: torch.device) -> torch.Generator:
    """A generator of its own for every step, so that a resumed run draws what it would have."""
    # An odd multiplier mixes seed and step; torch's own seeding scrambles the rest.
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63
    return torch.Generator(device).manual_seed(mixed)

"""The random numbers of a step of diffusion training."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from harope.diffusion import Process
from harope.lab.training.task import step_generator


class Draws(NamedTuple):
    """Of the part of a step's batch that is at hand."""

    times: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch channels height width"]
    uniform: Float[Tensor, " batch"]
    """In [0, 1), to decide whose condition is dropped."""


def noise_for_step(
    process: Process,
    x0: Float[Tensor, "batch channels height width"],
    *,
    seed: int,
    step: int,
    first: int,
    batch_size: int,
) -> Draws:
    """Drawn for all `batch_size` samples of the step and cut to those from `first` on, as many as
    x0 has: the same whatever the number of processes and the parts of a batch.
    """
    device, share = x0.device, slice(first, first + len(x0))
    generator = step_generator(seed, step, device)
    times = process.sample_times(batch_size, generator, device)
    noise = torch.randn((batch_size, *x0.shape[1:]), generator=generator, device=device)
    uniform = torch.rand(batch_size, generator=generator, device=device)
    return Draws(times[share], noise[share], uniform[share])

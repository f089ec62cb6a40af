"""The random numbers of a training step, independent of how its batch is split."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from harope.diffusion import Process


class StepNoise(NamedTuple):
    """Times, noise and uniform numbers for one micro-batch of a diffusion training step."""

    times: Float[Tensor, " batch"]
    """Times of the process, in its own units."""
    noise: Float[Tensor, "batch channels height width"]
    """Standard normal noise."""
    uniform: Float[Tensor, " batch"]
    """Uniform numbers in [0, 1), which decide whose condition is dropped."""


def noise_for_step(
    process: Process,
    x0: Float[Tensor, "batch channels height width"],
    *,
    seed: int,
    step: int,
    batch_offset: int,
    batch_size: int,
) -> StepNoise:
    """Sample the random numbers of a step and select those of one micro-batch.

    They are sampled for the complete batch, so that a training does not depend on the number of
    processes and micro-batches.

    Args:
        process: Process to sample times of.
        x0: Clean images or latents of the micro-batch; determines size, shape and device.
        seed: Seed of the training.
        step: Number of the step.
        batch_offset: Index of the micro-batch's first sample in the batch of the step.
        batch_size: Samples in the complete batch.
    """
    device, micro_batch = x0.device, slice(batch_offset, batch_offset + len(x0))
    generator = step_generator(seed, step, device)
    times = process.sample_times(batch_size, generator, device)
    noise = torch.randn((batch_size, *x0.shape[1:]), generator=generator, device=device)
    uniform = torch.rand(batch_size, generator=generator, device=device)
    return StepNoise(times[micro_batch], noise[micro_batch], uniform[micro_batch])


def step_generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """Create the random generator of a step, the same in a resumed run as in an uninterrupted one.

    Args:
        seed: Seed of the training.
        step: Number of the step.
        device: Device of the generator.
    """
    # Odd multipliers spread seed and step over 63 bits; torch scrambles the seed further.
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63
    return torch.Generator(device).manual_seed(mixed)

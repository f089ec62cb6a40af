"""Samplers for rectified flow: ODE solvers on a uniform grid of times from 1 down to 0."""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from harope._utils.argument_checks import check_integer
from harope.diffusion.flow import RectifiedFlow
from harope.diffusion.noise import SampleNoise
from harope.diffusion.process import Denoiser, OnStep

_Velocity = Callable[[Tensor, float], Tensor]
_Step = Callable[[_Velocity, Tensor, float, float], Tensor]


@torch.no_grad()
def euler_sample(
    model: Denoiser,
    process: RectifiedFlow,
    noise: SampleNoise,
    num_steps: int,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Sample by Euler's method: first order, one model evaluation per step.

    Args:
        model: The denoiser.
        process: The flow that the model was trained on.
        noise: Initial noise, one stream per sample.
        num_steps: Number of steps, at least 1.
        on_step: Progress callback.

    Returns:
        One sample per noise stream.

    Raises:
        ValueError: If `num_steps` is less than 1.
    """
    return _solve(_euler_step, model, process, noise, num_steps, on_step)


@torch.no_grad()
def heun_sample(
    model: Denoiser,
    process: RectifiedFlow,
    noise: SampleNoise,
    num_steps: int,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Sample by Heun's method: second order, two model evaluations per step, one in the last.

    The last step has no corrector, as in EDM (Karras et al. 2022, arXiv 2206.00364, algorithm 1):
    at time 0 a model that predicts x_0 carries no information about the noise.

    Args:
        model: The denoiser.
        process: The flow that the model was trained on.
        noise: Initial noise, one stream per sample.
        num_steps: Number of steps, at least 1.
        on_step: Progress callback.

    Returns:
        One sample per noise stream.

    Raises:
        ValueError: If `num_steps` is less than 1.
    """
    return _solve(_heun_step, model, process, noise, num_steps, on_step)


def _solve(
    step: _Step,
    model: Denoiser,
    process: RectifiedFlow,
    noise: SampleNoise,
    num_steps: int,
    on_step: OnStep | None,
) -> Tensor:
    check_integer("num_steps", num_steps, 1)

    def velocity(x: Tensor, time: float) -> Tensor:
        return process.velocity(model, x, torch.full((len(x),), time, device=x.device))

    x = noise.next()
    grid = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64).tolist()
    for done, (time, next_time) in enumerate(pairwise(grid), start=1):
        x = step(velocity, x, time, next_time)
        if on_step is not None:
            on_step(done, num_steps)
    return x


def _euler_step(velocity: _Velocity, x: Tensor, time: float, next_time: float) -> Tensor:
    return x + (next_time - time) * velocity(x, time)


def _heun_step(velocity: _Velocity, x: Tensor, time: float, next_time: float) -> Tensor:
    slope = velocity(x, time)
    if next_time == 0:
        return x + (next_time - time) * slope
    next_slope = velocity(x + (next_time - time) * slope, next_time)
    return x + (next_time - time) * (slope + next_slope) / 2

"""Samplers for Gaussian diffusion: ancestral, and DDIM and DPM-Solver++ from diffusers."""

import warnings
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harope._utils.argument_checks import check_integer
from harope.diffusion.gaussian import GaussianDiffusion
from harope.diffusion.noise import SampleNoise
from harope.diffusion.process import Denoiser, OnStep
from harope.diffusion.schedule import NoiseSchedule


@torch.no_grad()
def ancestral_sample(
    model: Denoiser,
    process: GaussianDiffusion,
    noise: SampleNoise,
    num_steps: int,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Sample by reversing a respaced chain step by step (Ho et al. 2020, algorithm 2).

    Each step uses the learned variance, or the posterior variance if none is learned.

    Args:
        model: The denoiser.
        process: The diffusion that the model was trained on.
        noise: Initial noise and the noise of every step, one stream per sample.
        num_steps: Number of steps, from 2 to num_timesteps.
        on_step: Progress callback.

    Returns:
        One sample per noise stream.

    Raises:
        ValueError: If `num_steps` is out of range.
    """
    schedule = process.schedule.respaced(num_steps)
    x = noise.next()
    for step in reversed(range(num_steps)):
        mean, std = _ancestral_step(model, process, schedule, x, step)
        # The last step returns the mean without noise.
        x = mean + std * noise.next() if step > 0 else mean
        if on_step is not None:
            on_step(num_steps - step, num_steps)
    return x


@torch.no_grad()
def ddim_sample(
    model: Denoiser,
    process: GaussianDiffusion,
    noise: SampleNoise,
    num_steps: int,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Sample by deterministic DDIM, eta = 0 (Song et al. 2021, arXiv 2010.02502), with diffusers.

    Args:
        model: The denoiser.
        process: The diffusion that the model was trained on.
        noise: Initial noise, one stream per sample; no other noise is used.
        num_steps: Number of steps, from 2 to num_timesteps.
        on_step: Progress callback.

    Returns:
        One sample per noise stream.

    Raises:
        ValueError: If `num_steps` is not in 2 .. num_timesteps.
        ImportError: If diffusers is not installed.
    """
    schedule = process.schedule.respaced(num_steps)
    # The scheduler assumes a constant stride, which holds on the respaced chain: it is 1.
    scheduler = _diffusers().DDIMScheduler(
        num_train_timesteps=num_steps,
        trained_betas=schedule.betas.tolist(),
        clip_sample=False,
    )
    scheduler.set_timesteps(num_steps)
    return _scheduled_sample(model, process, noise, schedule, scheduler, on_step)


@torch.no_grad()
def dpm_solver_sample(
    model: Denoiser,
    process: GaussianDiffusion,
    noise: SampleNoise,
    num_steps: int,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Sample by deterministic DPM-Solver++ (2M; Lu et al. 2022, arXiv 2211.01095) with diffusers.

    Args:
        model: The denoiser.
        process: The diffusion that the model was trained on.
        noise: Initial noise, one stream per sample; no other noise is used.
        num_steps: Number of steps, from 1 to num_timesteps - 1.
        on_step: Progress callback.

    Returns:
        One sample per noise stream.

    Raises:
        ValueError: If `num_steps` is not in 1 .. num_timesteps - 1.
        ImportError: If diffusers is not installed.
    """
    num_timesteps = process.config.num_timesteps
    check_dpm_steps(num_timesteps, num_steps)
    scheduler = _diffusers().DPMSolverMultistepScheduler(
        num_train_timesteps=num_timesteps,
        trained_betas=process.schedule.betas.tolist(),
        algorithm_type="dpmsolver++",
        solver_order=2,
    )
    with warnings.catch_warnings():
        # The scheduler passes a tensor to np.array, which NumPy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        scheduler.set_timesteps(num_steps)
    return _scheduled_sample(model, process, noise, process.schedule, scheduler, on_step)


def check_dpm_steps(num_timesteps: int, num_steps: int) -> None:
    """Check a number of steps of `dpm_solver_sample`.

    Args:
        num_timesteps: Length of the chain.
        num_steps: Number of steps, from 1 to num_timesteps - 1.

    Raises:
        ValueError: If `num_steps` is out of range.
    """
    check_integer("num_steps", num_steps)
    if not 1 <= num_steps < num_timesteps:
        raise ValueError(
            f"num_steps {num_steps} does not fit a chain of {num_timesteps} timesteps: "
            f"choose 1 to {num_timesteps - 1}"
        )


def _ancestral_step(
    model: Denoiser, process: GaussianDiffusion, schedule: NoiseSchedule, x: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """Compute the mean and standard deviation of p(x_{t-1} | x_t)."""
    steps = torch.full((len(x),), step, device=x.device)
    predicted, variance = _predict(model, process, schedule, x, steps)
    if variance is None:
        log_variance = schedule.posterior_log_variance(x, steps)
    else:
        log_variance = schedule.learned_log_variance(variance, steps)
    x0 = schedule.predict_x0(x, predicted, steps)
    return schedule.posterior_mean(x0, x, steps), torch.exp(0.5 * log_variance)


def _scheduled_sample(
    model: Denoiser,
    process: GaussianDiffusion,
    noise: SampleNoise,
    schedule: NoiseSchedule,
    scheduler: Any,
    on_step: OnStep | None,
) -> Tensor:
    """Run a deterministic diffusers scheduler whose timesteps index the steps of `schedule`."""
    x = noise.next()
    timesteps = scheduler.timesteps.tolist()
    for done, step in enumerate(timesteps, start=1):
        steps = torch.full((len(x),), step, device=x.device)
        predicted, _ = _predict(model, process, schedule, x, steps)
        x = scheduler.step(predicted, step, x).prev_sample
        if on_step is not None:
            on_step(done, len(timesteps))
    return x


def _predict(
    model: Denoiser,
    process: GaussianDiffusion,
    schedule: NoiseSchedule,
    x: Tensor,
    steps: Int[Tensor, "batch"],
) -> tuple[Tensor, Tensor | None]:
    """Predict the noise and the variance values; clip the implied x_0 if the process clips."""
    noise, variance = process.split_output(x, model(x, schedule.model_times(steps)))
    if process.config.clip_sample:
        # Clipping here treats all samplers alike: each diffusers scheduler clips in its own way.
        x0 = schedule.predict_x0(x, noise, steps).clamp(-1, 1)
        noise = schedule.predict_noise(x, x0, steps)
    return noise, variance


def _diffusers() -> ModuleType:
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(
            "the ddim and dpm samplers need diffusers, which is not installed: run "
            "`pip install harope[diffusers]`, or use the ancestral sampler"
        ) from error
    return diffusers

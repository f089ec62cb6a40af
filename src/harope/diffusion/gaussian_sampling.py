"""Samplers of Gaussian diffusion: ancestral, and two on the schedulers of diffusers."""

import warnings
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harope.diffusion.gaussian import GaussianDiffusion
from harope.diffusion.noise import SampleNoise
from harope.diffusion.process import Denoiser
from harope.diffusion.progress import OnStep, report_step
from harope.diffusion.schedule import NoiseSchedule


@torch.no_grad()
def ancestral_sample(
    model: Denoiser,
    process: GaussianDiffusion,
    noise: SampleNoise,
    num_steps: int,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Walk a respaced chain back, drawing each x_{t-1} (Ho et al. 2020, algorithm 2).

    The variance is the learned one, or the posterior's where none is learned.
    `num_steps` is 2 .. num_timesteps.
    """
    schedule = process.schedule.respaced(num_steps)
    x = noise.next()
    for step in reversed(range(num_steps)):
        mean, std = _ancestral_step(model, process, schedule, x, step)
        # The last step draws nothing: what is wanted is the mean of the data.
        x = mean + std * noise.next() if step > 0 else mean
        report_step(on_step, num_steps - step, num_steps)
    return x


@torch.no_grad()
def ddim_sample(
    model: Denoiser,
    process: GaussianDiffusion,
    noise: SampleNoise,
    num_steps: int,
    on_step: OnStep | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """Deterministic DDIM, eta 0 (Song et al. 2021, arXiv 2010.02502), by diffusers.

    `num_steps` is 2 .. num_timesteps. Raises ImportError without diffusers.
    """
    schedule = process.schedule.respaced(num_steps)
    # The scheduler assumes a constant stride; on the respaced chain itself the stride is one.
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
    """DPM-Solver++ (2M), deterministic (Lu et al. 2022, arXiv 2211.01095), by diffusers.

    `num_steps` is 1 .. num_timesteps - 1. Raises ImportError without diffusers.
    """
    num_timesteps = process.config.num_timesteps
    if not 1 <= num_steps < num_timesteps:
        raise ValueError(
            f"num_steps {num_steps} does not fit a chain of {num_timesteps} timesteps: "
            f"choose 1 to {num_timesteps - 1}"
        )
    scheduler = _diffusers().DPMSolverMultistepScheduler(
        num_train_timesteps=num_timesteps,
        trained_betas=process.schedule.betas.tolist(),
        algorithm_type="dpmsolver++",
        solver_order=2,
    )
    with warnings.catch_warnings():
        # The scheduler hands a tensor to np.array, which NumPy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        scheduler.set_timesteps(num_steps)
    return _scheduled_sample(model, process, noise, process.schedule, scheduler, on_step)


def _ancestral_step(
    model: Denoiser, process: GaussianDiffusion, schedule: NoiseSchedule, x: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of p(x_{t-1} | x_t)."""
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
    """Run a deterministic scheduler of diffusers, whose timesteps are steps of `schedule`."""
    x = noise.next()
    timesteps = scheduler.timesteps.tolist()
    for done, step in enumerate(timesteps, start=1):
        steps = torch.full((len(x),), step, device=x.device)
        predicted, _ = _predict(model, process, schedule, x, steps)
        x = scheduler.step(predicted, step, x).prev_sample
        report_step(on_step, done, len(timesteps))
    return x


def _predict(
    model: Denoiser,
    process: GaussianDiffusion,
    schedule: NoiseSchedule,
    x: Tensor,
    steps: Int[Tensor, "batch"],
) -> tuple[Tensor, Tensor | None]:
    """Predicted noise and variance values, the noise such that x0 is clipped where asked."""
    noise, variance = process.split_output(x, model(x, schedule.model_times(steps)))
    if process.config.clip_sample:
        # Done here for all samplers alike: the schedulers of diffusers clip each in its own way.
        x0 = schedule.predict_x0(x, noise, steps).clamp(-1, 1)
        noise = schedule.predict_noise(x, x0, steps)
    return noise, variance


def _diffusers() -> ModuleType:
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(
            "the ddim and dpm samplers need diffusers: pip install harope[diffusers], "
            "or use the ancestral sampler"
        ) from error
    return diffusers

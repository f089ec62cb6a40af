"""Our processes and samplers against the schedulers of diffusers."""

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor

from harope.diffusion import (
    GaussianConfig,
    GaussianDiffusion,
    RectifiedFlow,
    SampleNoise,
    ancestral_sample,
    ddim_sample,
    dpm_solver_sample,
    euler_sample,
    respaced_timesteps,
)

SEEDS, SHAPE = [3, 8], (4, 6, 6)
# diffusers keeps abar as a float32 product of 1000 factors: a relative error of about 1e-5.
TOLERANCE = {"rtol": 0, "atol": 2e-4}


def denoiser(channels: int):
    """Nearly the best denoiser of N(0, 1) data, made non-linear; then variances in -1..1."""
    weight = torch.randn(channels, 4, generator=torch.Generator().manual_seed(0)) / 4

    def model(x: Tensor, t: Tensor) -> Tensor:
        mixed = torch.tanh(torch.einsum("oc,bchw->bohw", weight, x))
        time = t.view(-1, 1, 1, 1) / 1000
        return torch.cat([time * x + (1 - time) * mixed[:, :4], mixed[:, 4:]], dim=1)

    return model


def times(step: int) -> Tensor:
    return torch.full((len(SEEDS),), float(step))


def run_scheduler(scheduler, model, **step_options) -> Tensor:
    """The sampling loop of a diffusers pipeline, on the noise of our own seeds."""
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    x = torch.stack([torch.randn(SHAPE, generator=generator) for generator in generators])
    if "generator" in step_options:
        step_options["generator"] = generators
    for step in scheduler.timesteps:
        x = scheduler.step(model(x, times(int(step))), step, x, **step_options).prev_sample
    return x


def test_add_noise_is_that_of_ddpm():
    x0, noise = torch.randn(2, 5, *SHAPE, generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([0, 1, 300, 700, 999])
    theirs = DDPMScheduler().add_noise(x0, noise, steps)
    ours = GaussianDiffusion().schedule.add_noise(x0, noise, steps)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_steps", [2, 10, 250, 1000])
@pytest.mark.parametrize("clip", [False, True])
def test_ancestral_sampling_is_ddpm_with_learned_range(num_steps, clip):
    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=clip)
    scheduler.set_timesteps(timesteps=respaced_timesteps(1000, num_steps).flip(0).tolist())
    theirs = run_scheduler(scheduler, denoiser(8), generator=None)
    process = GaussianDiffusion(GaussianConfig(clip_sample=clip))
    ours = ancestral_sample(denoiser(8), process, SampleNoise(SEEDS, SHAPE), num_steps)
    torch.testing.assert_close(ours, theirs, **TOLERANCE)


@pytest.mark.parametrize("num_steps", [10, 250])
def test_ancestral_sampling_is_ddpm_with_small_fixed_variance(num_steps):
    scheduler = DDPMScheduler(variance_type="fixed_small", clip_sample=False)
    scheduler.set_timesteps(timesteps=respaced_timesteps(1000, num_steps).flip(0).tolist())
    theirs = run_scheduler(scheduler, denoiser(4), generator=None)
    process = GaussianDiffusion(GaussianConfig(learned_variance=False))
    ours = ancestral_sample(denoiser(4), process, SampleNoise(SEEDS, SHAPE), num_steps)
    torch.testing.assert_close(ours, theirs, **TOLERANCE)


def test_ddim_on_the_whole_chain_is_that_of_diffusers():
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(1000)
    theirs = run_scheduler(scheduler, lambda x, t: denoiser(8)(x, t)[:, :4])
    ours = ddim_sample(denoiser(8), GaussianDiffusion(), SampleNoise(SEEDS, SHAPE), 1000)
    torch.testing.assert_close(ours, theirs, **TOLERANCE)


@pytest.mark.parametrize("num_steps", [5, 30, 300])
def test_ddim_is_its_formula_on_an_uneven_grid(num_steps):
    """Song et al. 2021 (arXiv 2010.02502), eq. 12 with sigma 0."""
    abar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    grid = respaced_timesteps(1000, num_steps).flip(0).tolist()
    x = SampleNoise(SEEDS, SHAPE).next().double()
    for step, following in zip(grid, [*grid[1:], None], strict=True):
        noise = denoiser(8)(x.float(), times(step))[:, :4]
        x0 = (x - (1 - abar[step]).sqrt() * noise) / abar[step].sqrt()
        after = torch.tensor(1.0) if following is None else abar[following]
        x = after.sqrt() * x0 + (1 - after).sqrt() * noise
    ours = ddim_sample(denoiser(8), GaussianDiffusion(), SampleNoise(SEEDS, SHAPE), num_steps)
    torch.testing.assert_close(ours, x.float(), **TOLERANCE)


@pytest.mark.parametrize("num_steps", [5, 20, 250])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_dpm_solver_is_that_of_diffusers(num_steps):
    scheduler = DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    scheduler.set_timesteps(num_steps)
    theirs = run_scheduler(scheduler, lambda x, t: denoiser(8)(x, t)[:, :4])
    ours = dpm_solver_sample(denoiser(8), GaussianDiffusion(), SampleNoise(SEEDS, SHAPE), num_steps)
    torch.testing.assert_close(ours, theirs, **TOLERANCE)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_clipped_dpm_solver_is_thresholding_at_one():
    scheduler = DPMSolverMultistepScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        thresholding=True,
        sample_max_value=1.0,
    )
    scheduler.set_timesteps(20)
    theirs = run_scheduler(scheduler, lambda x, t: denoiser(8)(x, t)[:, :4])
    process = GaussianDiffusion(GaussianConfig(clip_sample=True))
    ours = dpm_solver_sample(denoiser(8), process, SampleNoise(SEEDS, SHAPE), 20)
    torch.testing.assert_close(ours, theirs, **TOLERANCE)


@pytest.mark.parametrize("num_steps", [1, 7, 50])
def test_euler_is_flow_matching_on_a_uniform_grid(num_steps):
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, num_steps + 1)[:-1])
    x, model = SampleNoise(SEEDS, SHAPE).next(), denoiser(4)
    for step in scheduler.timesteps:
        x = scheduler.step(model(x, step.expand(len(SEEDS))), step, x).prev_sample
    ours = euler_sample(model, RectifiedFlow(), SampleNoise(SEEDS, SHAPE), num_steps)
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-5)

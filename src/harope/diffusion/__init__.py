"""Diffusion processes with their losses and samplers."""

from harope.diffusion.flow import FlowConfig, RectifiedFlow
from harope.diffusion.flow_sampling import euler_sample, heun_sample
from harope.diffusion.gaussian import GaussianConfig, GaussianDiffusion
from harope.diffusion.gaussian_sampling import ancestral_sample, ddim_sample, dpm_solver_sample
from harope.diffusion.guidance import guided
from harope.diffusion.noise import SampleNoise
from harope.diffusion.process import Denoiser, Process
from harope.diffusion.sampling import SAMPLERS, Sampler, sampler_for
from harope.diffusion.schedule import NoiseSchedule, respaced_timesteps

__all__ = [
    "SAMPLERS",
    "Denoiser",
    "FlowConfig",
    "GaussianConfig",
    "GaussianDiffusion",
    "NoiseSchedule",
    "Process",
    "RectifiedFlow",
    "SampleNoise",
    "Sampler",
    "ancestral_sample",
    "ddim_sample",
    "dpm_solver_sample",
    "euler_sample",
    "guided",
    "heun_sample",
    "respaced_timesteps",
    "sampler_for",
]

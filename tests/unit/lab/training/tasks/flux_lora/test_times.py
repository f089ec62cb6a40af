import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from harope.lab.training.tasks.flux_lora.task import logit_shift, sample_flux_times

TIMES = torch.tensor([0.1, 0.5, 0.9])


def draw(count, kind, shift):
    return sample_flux_times(count, kind, shift, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["exponential", "linear"])
@pytest.mark.parametrize("tokens", [256, 4096])
def test_times_are_shifted_like_those_of_the_scheduler_at_this_resolution(kind, tokens):
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, time_shift_type=kind, max_shift=1.3
    )
    shift = logit_shift(dict(scheduler.config), tokens)
    mu = calculate_shift(tokens, max_shift=1.3)
    moved = torch.sigmoid(torch.logit(TIMES) + shift)
    torch.testing.assert_close(moved, scheduler.time_shift(mu, 1.0, TIMES))


def test_a_fixed_shift_is_applied():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=TIMES.tolist())
    shift = logit_shift(dict(scheduler.config), 64)
    moved = torch.sigmoid(torch.logit(TIMES) + shift)
    torch.testing.assert_close(moved, scheduler.sigmas[:-1])


def test_logits_are_normal_about_the_shift():
    logits = torch.logit(draw(20_000, "logit-normal", 1.15))
    assert abs(logits.mean() - 1.15) < 5 / math.sqrt(20_000)
    assert abs(logits.std() - 1) < 0.03


def test_uniform_times_are_uniform_without_a_shift_and_noisier_with_one():
    times = draw(20_000, "uniform", 0.0)
    shares = torch.histc(times, bins=10, min=0, max=1) / 20_000
    assert (shares - 0.1).abs().max() < 0.012
    shifted = draw(20_000, "uniform", 1.0)
    torch.testing.assert_close(torch.logit(shifted), torch.logit(times) + 1, rtol=0, atol=1e-2)

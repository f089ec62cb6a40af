from itertools import pairwise

import pytest
import torch

from harope.diffusion import GaussianConfig, GaussianDiffusion, NoiseSchedule, respaced_timesteps

ALPHAS = 1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
ALPHAS_CUMPROD = ALPHAS.cumprod(0)


@pytest.fixture
def schedule() -> NoiseSchedule:
    return GaussianDiffusion().schedule


def images(seed: int, batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 3, 5, 6, generator=torch.Generator().manual_seed(seed))


def column(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)


def test_250_of_1000_steps_are_unique_and_reach_both_ends():
    steps = respaced_timesteps(1000, 250).tolist()
    assert (steps[0], steps[-1], len(set(steps))) == (0, 999, 250)
    assert steps[:6] == [0, 4, 8, 12, 16, 20]
    assert {b - a for a, b in pairwise(steps)} == {4, 5}


def test_respacing_to_the_full_length_keeps_every_step():
    assert torch.equal(respaced_timesteps(1000, 1000), torch.arange(1000))


@pytest.mark.parametrize("num_steps", [1, 1001])
def test_respacing_out_of_range_is_refused_with_the_range(num_steps):
    with pytest.raises(ValueError, match=f"num_steps {num_steps} .* choose 2 to 1000"):
        respaced_timesteps(1000, num_steps)


def test_add_noise_follows_the_products_of_the_alphas(schedule):
    steps = torch.tensor([0, 1, 500, 999])
    x0, noise = images(0), images(1)
    abar = torch.stack([ALPHAS[: step + 1].prod() for step in steps])
    expected = column(abar.sqrt()) * x0 + column((1 - abar).sqrt()) * noise
    torch.testing.assert_close(schedule.add_noise(x0, noise, steps), expected.float())


def test_x0_and_noise_are_recovered_from_the_noisy_image(schedule):
    steps = torch.tensor([0, 10, 100, 400])
    x0, noise = images(0), images(1)
    xt = schedule.add_noise(x0, noise, steps)
    torch.testing.assert_close(schedule.predict_x0(xt, noise, steps), x0, rtol=0, atol=1e-5)
    torch.testing.assert_close(schedule.predict_noise(xt, x0, steps), noise, rtol=0, atol=5e-5)


def test_posterior_is_the_product_of_its_two_gaussians(schedule):
    steps = torch.tensor([1, 2, 500, 999])
    x0, xt = images(0), images(1)
    alpha, previous = ALPHAS[steps], ALPHAS_CUMPROD[steps - 1]
    variance = 1 / (alpha / (1 - alpha) + 1 / (1 - previous))
    from_xt = column(variance * alpha.sqrt() / (1 - alpha)) * xt
    from_x0 = column(variance * previous.sqrt() / (1 - previous)) * x0
    mean = schedule.posterior_mean(x0, xt, steps)
    torch.testing.assert_close(mean, (from_xt + from_x0).float(), rtol=1e-5, atol=1e-6)
    log_variance = schedule.posterior_log_variance(xt, steps).flatten()
    torch.testing.assert_close(log_variance, variance.log().float())


def test_first_posterior_is_x0_with_the_second_ones_variance(schedule):
    x0, xt = images(0, batch=1), images(1, batch=1)
    first, second = torch.tensor([0]), torch.tensor([1])
    torch.testing.assert_close(schedule.posterior_mean(x0, xt, first), x0)
    variances = [schedule.posterior_log_variance(xt, step) for step in (first, second)]
    assert torch.equal(*variances)


def test_learned_log_variance_runs_from_posterior_to_beta(schedule):
    steps = torch.tensor([1, 30, 700, 999])
    ones = torch.ones(4, 3, 5, 6)
    log_beta = column((1 - ALPHAS[steps]).log()).expand_as(ones).float()
    posterior = schedule.posterior_log_variance(ones, steps).expand_as(ones)
    torch.testing.assert_close(schedule.learned_log_variance(ones, steps), log_beta)
    torch.testing.assert_close(schedule.learned_log_variance(-ones, steps), posterior)
    middle = schedule.learned_log_variance(0 * ones, steps)
    torch.testing.assert_close(middle, (log_beta + posterior) / 2)


def test_respaced_chain_keeps_the_marginals_and_the_model_times(schedule):
    respaced = schedule.respaced(50)
    kept = respaced_timesteps(1000, 50)
    steps = torch.tensor([0, 1, 30, 49])
    x0, noise = images(0), images(1)
    assert torch.equal(respaced.model_times(steps), kept[steps].float())
    assert torch.equal(
        respaced.add_noise(x0, noise, steps), schedule.add_noise(x0, noise, kept[steps])
    )


def test_two_respaced_steps_add_up_to_their_marginal(schedule):
    respaced = schedule.respaced(7)
    products = (1 - respaced.betas).cumprod(0)
    torch.testing.assert_close(products, ALPHAS_CUMPROD[respaced_timesteps(1000, 7)])


def test_tables_follow_the_device_of_their_input(schedule):
    x = torch.empty(4, 3, 5, 6, device="meta")
    steps = torch.empty(4, dtype=torch.long, device="meta")
    assert schedule.add_noise(x, x, steps).device.type == "meta"
    assert schedule.model_times(steps).device.type == "meta"


def test_float64_inputs_stay_float64(schedule):
    x = images(0).double()
    assert schedule.add_noise(x, x, torch.tensor([0, 1, 2, 3])).dtype == torch.float64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_timesteps": 1}, "num_timesteps 1 .* 2 or more"),
        ({"beta_start": 0.0}, "beta_start 0.0 and beta_end 0.02"),
        ({"beta_start": 0.5}, "beta_start 0.5 and beta_end 0.02"),
        ({"beta_end": 1.0}, "beta_start 0.0001 and beta_end 1.0"),
    ],
)
def test_gaussian_config_refuses_invalid_schedules(fields, message):
    with pytest.raises(ValueError, match=message):
        GaussianConfig(**fields)

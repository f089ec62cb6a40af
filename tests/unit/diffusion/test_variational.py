import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from harope.diffusion.variational import discretized_normal_nll, normal_kl

BIN_CENTRES = torch.linspace(-1, 1, 256, dtype=torch.float64)


def test_kl_is_that_of_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance, other_mean, other_log_variance = torch.randn(
        4, 50, generator=generator, dtype=torch.float64
    )
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()),
        torch.distributions.Normal(other_mean, (other_log_variance / 2).exp()),
    )
    actual = normal_kl(mean, log_variance, other_mean, other_log_variance)
    torch.testing.assert_close(actual, expected)


def test_kl_of_a_normal_to_itself_is_zero():
    mean, log_variance = torch.tensor([0.3, -2.0]), torch.tensor([-9.0, 1.0])
    assert torch.equal(normal_kl(mean, log_variance, mean, log_variance), torch.zeros(2))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.05), (-0.99, 0.3), (1.5, 0.2)])
def test_masses_of_all_bins_sum_to_one(mean, std):
    means = torch.full_like(BIN_CENTRES, mean)
    log_variance = torch.full_like(BIN_CENTRES, std).log() * 2
    masses = discretized_normal_nll(BIN_CENTRES, means, log_variance).neg().exp()
    # The 1e-12 floor may add as much for each of the 256 bins.
    assert masses.sum().item() == pytest.approx(1, abs=3e-10)


@pytest.mark.parametrize("bin_index", [1, 100, 128, 254])
def test_likelihood_is_the_integral_over_the_bin(bin_index):
    mean, std, centre = 0.05, 0.4, BIN_CENTRES[bin_index].item()
    mass, _ = quad(norm(mean, std).pdf, centre - 1 / 255, centre + 1 / 255)
    actual = discretized_normal_nll(
        torch.tensor([centre]), torch.tensor([mean]), torch.tensor([std]).log() * 2
    )
    torch.testing.assert_close(actual, -torch.tensor([mass]).log().float(), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("x", "tail"), [(-1.0, norm.cdf), (1.0, norm.sf)])
def test_outermost_bins_reach_to_infinity(x, tail):
    edge = x - x / 255
    actual = discretized_normal_nll(
        torch.tensor([x]), torch.tensor([0.1]), torch.tensor([0.25]).log()
    )
    expected = -torch.tensor([tail((edge - 0.1) / 0.5)]).log().float()
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("mean", [-0.04, 0.04])
def test_float32_likelihood_is_exact_five_deviations_out(mean):
    x, std = torch.tensor([0.0]), 0.01
    lower, upper = (-1 / 255 - mean) / std, (1 / 255 - mean) / std
    mass = norm.cdf(upper) - norm.cdf(lower) if mean > 0 else norm.sf(lower) - norm.sf(upper)
    actual = discretized_normal_nll(x, torch.tensor([mean]), torch.tensor([std]).log() * 2)
    torch.testing.assert_close(actual, -torch.tensor([mass]).log().float(), rtol=1e-5, atol=0)


def test_values_and_gradients_stay_finite_far_from_the_mean():
    mean = torch.tensor([-50.0, 0.0, 50.0, 0.0], requires_grad=True)
    log_variance = torch.tensor([-10.0, -10.0, -10.0, 4.0], requires_grad=True)
    nll = discretized_normal_nll(torch.tensor([0.0, 3.0, -1.0, 0.0]), mean, log_variance)
    nll.sum().backward()
    assert nll.isfinite().all()
    assert mean.grad.isfinite().all()
    assert log_variance.grad.isfinite().all()

import math

import pytest
import torch

from harope.diffusion import GaussianConfig, GaussianDiffusion

ALPHAS = 1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
ALPHAS_CUMPROD = ALPHAS.cumprod(0)


def latents(seed: int, batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 4, 6, 6, generator=torch.Generator().manual_seed(seed))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def constant_model(noise: torch.Tensor, variance: float):
    return lambda x, t: torch.cat([noise, torch.full_like(noise, variance)], dim=1)


def test_times_are_uniform_integers_of_the_chain():
    times = GaussianDiffusion(GaussianConfig(num_timesteps=10)).sample_times(
        20_000, generator(), "cpu"
    )
    assert times.dtype == torch.float32
    frequencies = times.long().bincount() / len(times)
    # Four standard deviations of a proportion of 0.1 among 20,000.
    assert (frequencies - 0.1).abs().max() < 4 * math.sqrt(0.1 * 0.9 / 20_000)
    assert len(frequencies) == 10


def test_model_sees_the_noisy_image_and_its_integer_time():
    seen = {}

    def model(x, t):
        seen.update(x=x, t=t)
        return torch.zeros(4, 8, 6, 6)

    process, times = GaussianDiffusion(), torch.tensor([0.0, 7.0, 500.0, 999.0])
    process.losses(model, latents(0), latents(1), times)
    assert torch.equal(seen["t"], times)
    expected = process.schedule.add_noise(latents(0), latents(1), times.long())
    assert torch.equal(seen["x"], expected)


def test_mse_is_the_mean_square_over_pixels_and_channels():
    noise, times = latents(1), torch.tensor([0.0, 7.0, 500.0, 999.0])
    losses = GaussianDiffusion().losses(constant_model(0 * noise, 0.0), latents(0), noise, times)
    torch.testing.assert_close(losses["mse"], noise.square().mean(dim=(1, 2, 3)))


def test_loss_is_the_sum_of_its_parts():
    losses = GaussianDiffusion().losses(
        lambda x, t: 0.3 * torch.cat([x, x.flip(1)], 1), latents(0), latents(1), torch.arange(4.0)
    )
    assert set(losses) == {"loss", "mse", "vb"}
    assert torch.equal(losses["loss"], losses["mse"] + losses["vb"])


def test_true_noise_and_posterior_variance_have_zero_loss():
    noise, times = latents(1), torch.tensor([1.0, 7.0, 500.0, 999.0])
    losses = GaussianDiffusion().losses(constant_model(noise, -1.0), latents(0), noise, times)
    # The mean is off by the rounding of predict_x0, squared and over a variance of 5e-5 or more.
    torch.testing.assert_close(losses["vb"], torch.zeros(4), rtol=0, atol=1e-6)


def test_vb_is_the_divergence_of_the_two_posteriors_in_bits():
    x0, noise, times = latents(0), latents(1), torch.tensor([1.0, 7.0, 500.0, 999.0])
    losses = GaussianDiffusion().losses(constant_model(0.9 * noise, 1.0), x0, noise, times)
    steps = times.long()
    beta, abar, previous = 1 - ALPHAS[steps], ALPHAS_CUMPROD[steps], ALPHAS_CUMPROD[steps - 1]
    variance = beta * (1 - previous) / (1 - abar)
    # Ho et al. 2020, eq. 12: the means differ by beta / sqrt(a (1 - abar)) times the noise's error.
    shift = (beta / (ALPHAS[steps] * (1 - abar)).sqrt()).view(-1, 1, 1, 1) * 0.1 * noise
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(0.0, variance.sqrt().view(-1, 1, 1, 1)),
        torch.distributions.Normal(shift, beta.sqrt().view(-1, 1, 1, 1)),
    )
    expected = (kl.mean(dim=(1, 2, 3)) / math.log(2)).float()
    torch.testing.assert_close(losses["vb"], expected, rtol=2e-4, atol=1e-7)


def test_vb_at_time_zero_is_the_discretized_likelihood_in_bits():
    x0 = torch.randint(256, (2, 4, 6, 6), generator=generator()) / 127.5 - 1
    noise = latents(1, batch=2)
    losses = GaussianDiffusion().losses(constant_model(noise, 1.0), x0, noise, torch.zeros(2))
    # The mean is x0 itself, the variance beta_0 = 1e-4: a bin reaches 1/255 to either side.
    reach = torch.tensor(1 / 255 / 0.01, dtype=torch.float64)
    tail = torch.special.ndtr(-reach)
    is_edge = x0.abs() > 0.999
    expected = -torch.where(is_edge, 1 - tail, 1 - 2 * tail).log2().mean(dim=(1, 2, 3))
    torch.testing.assert_close(losses["vb"], expected.float(), rtol=1e-4, atol=0)


def test_gradient_of_vb_reaches_the_variance_channels_only():
    output = torch.randn(4, 8, 6, 6, generator=generator(), requires_grad=True)
    losses = GaussianDiffusion().losses(
        lambda x, t: output, latents(0), latents(1), torch.tensor([0.0, 3.0, 400.0, 999.0])
    )
    losses["vb"].sum().backward()
    assert output.grad[:, :4].abs().max() == 0
    assert (output.grad[:, 4:].flatten(1).abs().amax(1) > 0).all()


def test_gradient_of_mse_reaches_the_noise_channels_only():
    output = torch.zeros(4, 8, 6, 6, requires_grad=True)
    losses = GaussianDiffusion().losses(lambda x, t: output, latents(0), latents(1), torch.ones(4))
    losses["mse"].sum().backward()
    assert output.grad[:, 4:].abs().max() == 0
    torch.testing.assert_close(output.grad[:, :4], -2 * latents(1) / (4 * 6 * 6))


def test_a_fixed_variance_leaves_only_the_mse():
    process = GaussianDiffusion(GaussianConfig(learned_variance=False))
    losses = process.losses(lambda x, t: 0 * x, latents(0), latents(1), torch.ones(4))
    assert set(losses) == {"loss", "mse"}
    assert torch.equal(losses["loss"], losses["mse"])


@pytest.mark.parametrize(("learned", "channels"), [(True, 8), (False, 4)])
def test_learned_variance_doubles_the_output_channels(learned, channels):
    process = GaussianDiffusion(GaussianConfig(learned_variance=learned))
    assert process.output_channels(4) == channels


def test_an_output_with_too_few_channels_is_refused():
    with pytest.raises(ValueError, match=r"returned 4 channels for an input of 4, but .* needs 8"):
        GaussianDiffusion().losses(lambda x, t: x, latents(0), latents(1), torch.ones(4))


def test_losses_of_a_bfloat16_model_are_computed_in_float32():
    x0, noise, times = latents(0), latents(1), torch.tensor([0.0, 3.0, 400.0, 999.0])
    torch.manual_seed(0)
    model = torch.nn.Conv2d(4, 8, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = GaussianDiffusion().losses(lambda x, t: model(x), x0, noise, times)
    # The same output, rounded once: nothing else may be lost.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(GaussianDiffusion().schedule.add_noise(x0, noise, times.long()))
    assert outputs.dtype == torch.bfloat16
    exact = GaussianDiffusion().losses(lambda x, t: outputs.float(), x0, noise, times)
    assert all(torch.equal(rounded[key], exact[key]) for key in exact)
    assert rounded["loss"].dtype == torch.float32


def test_losses_run_on_the_device_of_their_inputs():
    x = torch.empty(4, 4, 6, 6, device="meta")
    times = torch.empty(4, device="meta")
    losses = GaussianDiffusion().losses(lambda x, t: torch.cat([x, x], 1), x, x, times)
    assert losses["loss"].device.type == "meta"

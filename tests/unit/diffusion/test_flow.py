import math

import pytest
import torch

from harope.diffusion import FlowConfig, RectifiedFlow


def latents(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(seed))


def test_times_are_logit_normal():
    config = FlowConfig(logit_mean=0.5, logit_std=0.7)
    generator = torch.Generator().manual_seed(0)
    logits = RectifiedFlow(config).sample_times(20_000, generator, "cpu").logit()
    # Four standard errors of a mean and of a standard deviation.
    assert logits.mean().item() == pytest.approx(0.5, abs=4 * 0.7 / math.sqrt(20_000))
    assert logits.std().item() == pytest.approx(0.7, abs=4 * 0.7 / math.sqrt(40_000))


def test_one_seed_gives_one_set_of_times():
    draws = [
        RectifiedFlow().sample_times(8, torch.Generator().manual_seed(3), "cpu") for _ in range(2)
    ]
    assert torch.equal(*draws)


def test_the_path_goes_from_data_to_noise():
    x0, noise, flow = latents(0), latents(1), RectifiedFlow()
    assert torch.equal(flow.add_noise(x0, noise, torch.zeros(3)), x0)
    assert torch.equal(flow.add_noise(x0, noise, torch.ones(3)), noise)


def test_the_true_velocity_has_zero_loss_and_is_the_slope_of_the_path():
    x0, noise, flow = latents(0).double(), latents(1).double(), RectifiedFlow()
    times = torch.tensor([0.1, 0.5, 0.8])
    step = 2**-10
    slope = (flow.add_noise(x0, noise, times + step) - flow.add_noise(x0, noise, times)) / step
    losses = flow.losses(lambda x, t: slope, x0, noise, times)
    assert set(losses) == {"loss"}
    # float32 times carry an error of 6e-8, magnified by 1 / step.
    torch.testing.assert_close(losses["loss"], torch.zeros(3), rtol=0, atol=1e-7)


def test_loss_is_the_mean_square_of_the_velocity_error():
    losses = RectifiedFlow().losses(lambda x, t: 0 * x, latents(0), latents(1), torch.rand(3))
    expected = (latents(1) - latents(0)).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(losses["loss"], expected)


def test_the_model_receives_1000_t():
    seen = []

    def model(x, t):
        seen.append(t)
        return x

    RectifiedFlow().losses(model, latents(0), latents(1), torch.tensor([0.0, 0.25, 1.0]))
    assert torch.equal(seen[0], torch.tensor([0.0, 250.0, 1000.0]))


def test_losses_of_a_bfloat16_model_are_float32():
    losses = RectifiedFlow().losses(
        lambda x, t: x.bfloat16(), latents(0), latents(1), torch.rand(3)
    )
    assert losses["loss"].dtype == torch.float32


def test_the_output_has_the_channels_of_the_input():
    assert RectifiedFlow().output_channels(4) == 4
    with pytest.raises(ValueError, match=r"returned 8 channels for an input of 4, but .* needs 4"):
        RectifiedFlow().losses(
            lambda x, t: torch.cat([x, x], 1), latents(0), latents(1), torch.rand(3)
        )


def test_flow_config_refuses_a_standard_deviation_of_zero():
    with pytest.raises(ValueError, match=r"logit_std 0\.0"):
        FlowConfig(logit_std=0.0)


def test_the_true_data_has_zero_loss_at_any_time():
    flow = RectifiedFlow(FlowConfig(prediction="data"))
    losses = flow.losses(lambda x, t: latents(0), latents(0), latents(1), torch.tensor([0, 0.5, 1]))
    assert torch.equal(losses["loss"], torch.zeros(3))


def test_the_loss_of_a_data_prediction_is_its_squared_error_over_time_squared():
    """v = (x_t - x_0) / t, and t no smaller than 0.05 in it."""
    flow = RectifiedFlow(FlowConfig(prediction="data"))
    times = torch.tensor([0.01, 0.25, 1.0])
    losses = flow.losses(lambda x, t: latents(0) + 0.1, latents(0), latents(1), times)
    expected = torch.tensor([(0.1 / 0.05) ** 2, (0.1 / 0.25) ** 2, 0.1**2])
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-4, atol=0)

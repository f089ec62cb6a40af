"""Denoising diffusion with learned variance (DDPM): the process that DiT is trained on."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harope._utils.argument_checks import check_fields
from harope.diffusion.process import (
    Denoiser,
    Process,
    check_batch,
    check_output_channels,
    sample_mean,
)
from harope.diffusion.schedule import NoiseSchedule
from harope.diffusion.variational import discretized_normal_nll, normal_kl


@dataclass(frozen=True, kw_only=True)
class GaussianConfig:
    """Configuration of a Markov chain with linearly increasing betas.

    The defaults are those of Ho et al. 2020 (arXiv 2006.11239) and of DiT (arXiv 2212.09748).
    """

    kind: Literal["ddpm"] = "ddpm"
    """Tag in configuration files."""
    num_timesteps: int = 1000
    """Number of steps of the chain."""
    beta_start: float = 1e-4
    """Variance of the noise added by the first step."""
    beta_end: float = 0.02
    """Variance of the noise added by the last step."""
    learned_variance: bool = True
    """Whether the model predicts the variance of each reverse step. It then returns twice its input
    channels, and the second half interpolates the variance (arXiv 2102.09672, eq. 15)."""
    clip_sample: bool = False
    """Whether samplers clip the predicted x_0 to [-1, 1]; for pixels, not for latents."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.num_timesteps < 2:
            raise ValueError(f"num_timesteps {self.num_timesteps} is too small: use 2 or more")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                f"beta_start {self.beta_start} and beta_end {self.beta_end} must satisfy "
                f"0 < beta_start <= beta_end < 1"
            )


class GaussianDiffusion(Process):
    """Gaussian diffusion x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise; the model predicts noise.

    Times are the integers 0 .. num_timesteps - 1, stored in float32 and passed to the model
    unchanged (Ho et al. 2020, arXiv 2006.11239; Nichol & Dhariwal 2021, arXiv 2102.09672).

    Args:
        config: Length and betas of the chain, and whether the variance is learned.
    """

    def __init__(self, config: GaussianConfig | None = None) -> None:
        self.config = config or GaussianConfig()
        self.schedule = _linear_schedule(self.config)

    def sample_times(
        self, batch: int, generator: torch.Generator, device: torch.device | str
    ) -> Float[Tensor, "batch"]:
        """Sample times uniformly from 0 .. num_timesteps - 1.

        Args:
            batch: Number of times.
            generator: Random generator, on whose device times are sampled.
            device: Device of the result.

        Returns:
            Whole numbers (batch,) in float32.
        """
        high = self.config.num_timesteps
        steps = torch.randint(high, (batch,), generator=generator, device=generator.device)
        return steps.to(device=device, dtype=torch.float32)

    def times_at(self, fractions: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        return (fractions.double() * self.config.num_timesteps).floor().float()

    def losses(
        self,
        model: Denoiser,
        x0: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
    ) -> dict[str, Float[Tensor, "batch"]]:
        """Compute the hybrid loss mse + vb, or mse alone if the variance is not learned.

        "mse" is the mean squared error of the noise. "vb" is the term of the variational bound at
        this time in bits per dimension; its gradient reaches the variance channels only (Nichol &
        Dhariwal 2021, eq. 16, with weight 1 as in DiT).

        Args:
            model: The denoiser.
            x0: Clean images or latents.
            noise: Standard normal noise of the same shape.
            times: Times as returned by `sample_times`.

        Returns:
            Losses (batch,) in float32: "loss" and its terms, "mse" and, if the variance is
            learned, "vb".

        Raises:
            ValueError: If the shapes do not fit each other, or the model does not return
                `output_channels` channels.
        """
        check_batch(x0, noise, times)
        x0, noise, steps = x0.float(), noise.float(), times.long()
        xt = self.schedule.add_noise(x0, noise, steps)
        predicted, variance = self.split_output(xt, model(xt, self.schedule.model_times(steps)))
        mse = sample_mean((predicted - noise).square())
        if variance is None:
            return {"loss": mse, "mse": mse}
        vb = self._variational_bound(x0, xt, predicted.detach(), variance, steps)
        return {"loss": mse + vb, "mse": mse, "vb": vb}

    def output_channels(self, in_channels: int) -> int:
        """Return `in_channels`, or twice as many if the variance is learned.

        Args:
            in_channels: Channels of images or latents.
        """
        return 2 * in_channels if self.config.learned_variance else in_channels

    def split_output(
        self,
        x: Float[Tensor, "batch channels height width"],
        output: Float[Tensor, "batch out_channels height width"],
    ) -> tuple[
        Float[Tensor, "batch channels height width"],
        Float[Tensor, "batch channels height width"] | None,
    ]:
        """Split a model's output into the predicted noise and the variance values.

        Args:
            x: Input of the model.
            output: Output of the model, of any floating dtype.

        Returns:
            The noise and the variance values in [-1, 1] (see `NoiseSchedule.learned_log_variance`),
            both in the dtype of `x`; the values are None if the variance is not learned.

        Raises:
            ValueError: If the output does not have `output_channels` channels.
        """
        check_output_channels(self, x, output)
        output = output.to(x.dtype)
        if not self.config.learned_variance:
            return output, None
        noise, variance = output.chunk(2, dim=1)
        return noise, variance

    def _variational_bound(
        self, x0: Tensor, xt: Tensor, noise: Tensor, variance: Tensor, steps: Int[Tensor, "batch"]
    ) -> Tensor:
        schedule = self.schedule
        log_variance = schedule.learned_log_variance(variance, steps)
        mean = schedule.posterior_mean(schedule.predict_x0(xt, noise, steps), xt, steps)
        true_mean = schedule.posterior_mean(x0, xt, steps)
        true_log_variance = schedule.posterior_log_variance(xt, steps)
        kl = normal_kl(true_mean, true_log_variance, mean, log_variance)
        nll = discretized_normal_nll(x0, mean, log_variance)
        nats = torch.where(steps == 0, sample_mean(nll), sample_mean(kl))
        return nats / math.log(2)


def _linear_schedule(config: GaussianConfig) -> NoiseSchedule:
    betas = torch.linspace(
        config.beta_start, config.beta_end, config.num_timesteps, dtype=torch.float64
    )
    return NoiseSchedule(torch.cumprod(1 - betas, dim=0), torch.arange(config.num_timesteps))

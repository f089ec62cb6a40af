"""Rectified flow: straight paths from data to noise, and the velocity along them."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from harope._utils.argument_checks import check_fields
from harope.diffusion.process import (
    Denoiser,
    Process,
    check_batch,
    check_output_channels,
    sample_mean,
)

_MODEL_TIME_SCALE = 1000.0
# Times below this are clamped in (x_t - x_0) / t, which bounds the error of the velocity near t = 0
# (Li & He 2025, arXiv 2511.13720, section 4).
_MIN_TIME = 0.05


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Configuration of a rectified flow: the model's prediction and the distribution of times.

    Training times are logit-normal: t = sigmoid(z) with z ~ N(logit_mean, logit_std^2).
    """

    kind: Literal["flow"] = "flow"
    """Tag in configuration files."""
    prediction: Literal["velocity", "data"] = "velocity"
    """Output of the model: the velocity noise - x_0, or x_0 itself. Predicting x_0 is easier for a
    network whose width is small relative to its patches, because the noise need not pass through
    it (Li & He 2025, arXiv 2511.13720)."""
    logit_mean: float = 0.0
    """Mean of logit t. Positive values favour noisy times."""
    logit_std: float = 1.0
    """Standard deviation of logit t."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.logit_std <= 0:
            raise ValueError(f"logit_std {self.logit_std} must be positive: 1.0 is usual")


class RectifiedFlow(Process):
    """Rectified flow x_t = (1 - t) x_0 + t noise with t in [0, 1].

    The model receives 1000 t and predicts either the velocity v = noise - x_0 or x_0; in both cases
    the loss is the mean squared error of the velocity (Esser et al. 2024, arXiv 2403.03206,
    sections 2 and 3.1).

    Args:
        config: Prediction type and distribution of times.
    """

    def __init__(self, config: FlowConfig | None = None) -> None:
        self.config = config or FlowConfig()

    def sample_times(
        self, batch: int, generator: torch.Generator, device: torch.device | str
    ) -> Float[Tensor, "batch"]:
        """Sample logit-normal times in [0, 1] (arXiv 2403.03206, eq. 19).

        Args:
            batch: Number of times.
            generator: Random generator, on whose device times are sampled.
            device: Device of the result.

        Returns:
            Times (batch,), float32.
        """
        normal = torch.randn(batch, generator=generator, device=generator.device)
        return self._times(normal).to(device)

    def times_at(self, fractions: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        return self._times(torch.special.ndtri(fractions.double())).float()

    def losses(
        self,
        model: Denoiser,
        x0: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
    ) -> dict[str, Float[Tensor, "batch"]]:
        """Compute the unweighted mean squared error of the velocity.

        Args:
            model: The denoiser.
            x0: Clean images or latents.
            noise: Standard normal noise of the same shape.
            times: Times as returned by `sample_times`.

        Returns:
            "loss" (batch,), float32.

        Raises:
            ValueError: If the shapes do not fit each other, or the model does not return as many
                channels as `x0` has.
        """
        check_batch(x0, noise, times)
        x0, noise = x0.float(), noise.float()
        xt = self.add_noise(x0, noise, times)
        target = noise - x0 if self.config.prediction == "velocity" else _velocity(xt, x0, times)
        return {"loss": sample_mean((self.velocity(model, xt, times) - target).square())}

    def _times(self, normal: Tensor) -> Tensor:
        return torch.sigmoid(self.config.logit_mean + self.config.logit_std * normal)

    def output_channels(self, in_channels: int) -> int:
        """Return `in_channels`: no variance is learned.

        Args:
            in_channels: Channels of images or latents.
        """
        return in_channels

    def add_noise(
        self,
        x0: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Compute x_t = (1 - t) x_0 + t noise in the dtype of `x0`.

        Args:
            x0: Clean images or latents.
            noise: Standard normal noise of the same shape.
            times: Times t in [0, 1].
        """
        times = times.to(x0.dtype).view(-1, 1, 1, 1)
        return (1 - times) * x0 + times * noise

    def velocity(
        self,
        model: Denoiser,
        x: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Evaluate the model's velocity dx/dt = noise - x_0 = (x_t - x_0) / t.

        Args:
            model: The denoiser, called with `x` and 1000 t.
            x: Noisy images or latents x_t.
            times: Times t in [0, 1].

        Returns:
            The velocity, of the shape and dtype of `x`.

        Raises:
            ValueError: If the model does not return as many channels as `x` has.
        """
        output = model(x, _MODEL_TIME_SCALE * times)
        check_output_channels(self, x, output)
        output = output.to(x.dtype)
        return output if self.config.prediction == "velocity" else _velocity(x, output, times)


def _velocity(xt: Tensor, x0: Tensor, times: Tensor) -> Tensor:
    """Compute (x_t - x_0) / t, bounded near t = 0."""
    return (xt - x0) / times.to(xt.dtype).clamp(min=_MIN_TIME).view(-1, 1, 1, 1)

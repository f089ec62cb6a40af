"""Rectified flow: straight lines from data to noise, and their velocity."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from harope.diffusion.process import Denoiser, Process, check_output_channels, sample_mean

_MODEL_UNITS = 1000.0
# Below this time the velocity (x_t - x_0) / t is divided by the constant, so that its error stays
# bounded (Li & He 2025, arXiv 2511.13720, section 4).
_MIN_TIME = 0.05


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """What the model returns, and how times are drawn: t = sigmoid(z), z ~ N(mean, std^2)."""

    kind: Literal["flow"] = "flow"
    """Tag in configuration files."""
    prediction: Literal["velocity", "data"] = "velocity"
    """What the model returns: noise - x_0, or x_0, which asks less of a network that is narrow
    beside its patches: noise need not pass through it (Li & He 2025, arXiv 2511.13720)."""
    logit_mean: float = 0.0
    """Mean of logit t; above 0 favours noisy times."""
    logit_std: float = 1.0
    """Standard deviation of logit t."""

    def __post_init__(self) -> None:
        if self.logit_std <= 0:
            raise ValueError(f"logit_std {self.logit_std} is not a spread: it must be positive")


class RectifiedFlow(Process):
    """x_t = (1 - t) x_0 + t noise for t in 0..1; the model predicts v = noise - x_0, or x_0.

    Either way the loss is that of the velocity. The model is told 1000 t. Esser et al. 2024
    (arXiv 2403.03206), sections 2 and 3.1.
    """

    def __init__(self, config: FlowConfig | None = None) -> None:
        self.config = config or FlowConfig()

    def sample_times(
        self, batch: int, generator: torch.Generator, device: torch.device | str
    ) -> Float[Tensor, "batch"]:
        """Draw logit-normal times in 0..1 (arXiv 2403.03206, eq. 19)."""
        normal = torch.randn(batch, generator=generator, device=generator.device)
        times = torch.sigmoid(self.config.logit_mean + self.config.logit_std * normal)
        return times.to(device)

    def losses(
        self,
        model: Denoiser,
        x0: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
    ) -> dict[str, Float[Tensor, "batch"]]:
        """Return the mean squared error of the velocity, unweighted."""
        x0, noise = x0.float(), noise.float()
        xt = self.add_noise(x0, noise, times)
        target = noise - x0 if self.config.prediction == "velocity" else _velocity(xt, x0, times)
        return {"loss": sample_mean((self.velocity(model, xt, times) - target).square())}

    def output_channels(self, in_channels: int) -> int:
        """Return in_channels."""
        return in_channels

    def add_noise(
        self,
        x0: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Return (1 - t) x_0 + t noise, in x_0's dtype."""
        times = times.to(x0.dtype).view(-1, 1, 1, 1)
        return (1 - times) * x0 + times * noise

    def velocity(
        self,
        model: Denoiser,
        x: Float[Tensor, "batch channels height width"],
        times: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Ask the model for dx/dt = (x_t - x_0) / t, in x's dtype; times in 0..1.

        Raises ValueError when the model's output is not as wide as x.
        """
        output = model(x, _MODEL_UNITS * times)
        check_output_channels(self, x, output)
        output = output.to(x.dtype)
        return output if self.config.prediction == "velocity" else _velocity(x, output, times)


def _velocity(xt: Tensor, x0: Tensor, times: Tensor) -> Tensor:
    """(x_t - x_0) / t, which is noise - x_0, bounded near t = 0."""
    return (xt - x0) / times.to(xt.dtype).clamp(min=_MIN_TIME).view(-1, 1, 1, 1)

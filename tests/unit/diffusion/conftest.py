"""Data that is exactly Gaussian, for which the best denoiser and its samples are known."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from harope.diffusion import NoiseSchedule


@dataclass(frozen=True)
class GaussianData:
    """Independent pixels N(mean, std^2); every denoiser here is a conditional expectation."""

    mean: float = 0.4
    std: float = 0.5

    def noise_model(self, schedule: NoiseSchedule, learned_variance: bool = True):
        """E[noise | x_t], and the variance of x_{t-1} given x_t on this very chain."""

        def model(x: Tensor, t: Tensor) -> Tensor:
            step = schedule.timesteps.tolist().index(int(t[0]))
            abar = schedule.alphas_cumprod[step].item()
            spread = abar * self.std**2 + 1 - abar
            noise = (1 - abar) ** 0.5 * (x - abar**0.5 * self.mean) / spread
            if not learned_variance:
                return noise
            return torch.cat([noise, torch.full_like(x, self._fraction(schedule, step))], dim=1)

        return model

    def _fraction(self, schedule: NoiseSchedule, step: int) -> float:
        """Where log Var[x_{t-1} | x_t] lies between the posterior's (-1) and log beta (1)."""
        if step == 0:
            return 0.0
        abar, previous = schedule.alphas_cumprod[[step, step - 1]].tolist()
        beta = 1 - abar / previous
        posterior = beta * (1 - previous) / (1 - abar)
        left_over = self.std**2 * (1 - abar) / (abar * self.std**2 + 1 - abar)
        variance = posterior + left_over * previous * (beta / (1 - abar)) ** 2
        logs = torch.tensor([posterior, variance, beta], dtype=torch.float64).log().tolist()
        return 2 * (logs[1] - logs[0]) / (logs[2] - logs[0]) - 1

    def flow_model(self):
        """E[noise - x_0 | x_t]."""

        def model(x: Tensor, t: Tensor) -> Tensor:
            time = t[0].item() / 1000
            spread = (1 - time) ** 2 * self.std**2 + time**2
            slope = (time - (1 - time) * self.std**2) / spread
            return slope * (x - (1 - time) * self.mean) - self.mean

        return model


@pytest.fixture
def data() -> GaussianData:
    return GaussianData()

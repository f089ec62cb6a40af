"""The Markov chain of a discrete Gaussian diffusion: its coefficients and formulas.

Notation of Ho et al. 2020 (arXiv 2006.11239): a_t = 1 - beta_t, abar_t = a_1 ... a_t. `steps` are
indices into the chain; step 0 is the least noisy.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from harope._utils.argument_checks import check_integer, check_tensor
from harope._utils.json_files import shorten
from harope.rope._fast.execution import runs_real_tensors


def respaced_timesteps(num_timesteps: int, num_steps: int) -> Int[Tensor, "steps"]:
    """Choose evenly spaced indices from 0 to num_timesteps - 1.

    Index i is round(i (num_timesteps - 1) / (num_steps - 1)), the spacing that DiT samples with
    (Nichol & Dhariwal 2021, arXiv 2102.09672, section 4).

    Args:
        num_timesteps: Length of the chain.
        num_steps: How many indices to choose, from 2 to num_timesteps.

    Returns:
        Indices (num_steps,), int64, ascending.

    Raises:
        ValueError: If `num_steps` is out of range.
    """
    check_integer("num_timesteps", num_timesteps)
    check_integer("num_steps", num_steps)
    if not 2 <= num_steps <= num_timesteps:
        raise ValueError(
            f"num_steps {num_steps} does not fit a chain of {num_timesteps} timesteps: "
            f"choose 2 to {num_timesteps}"
        )
    stride = (num_timesteps - 1) / (num_steps - 1)
    return torch.round(torch.arange(num_steps, dtype=torch.float64) * stride).long()


@dataclass(frozen=True, kw_only=True)
class _Tables:
    """Coefficients of the formulas below, one float32 value per step of the chain."""

    timesteps: Float[Tensor, "steps"]
    signal: Float[Tensor, "steps"]
    noise: Float[Tensor, "steps"]
    log_betas: Float[Tensor, "steps"]
    posterior_log_variance: Float[Tensor, "steps"]
    posterior_x0: Float[Tensor, "steps"]
    posterior_xt: Float[Tensor, "steps"]

    def to(self, device: torch.device) -> "_Tables":
        return _Tables(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


class NoiseSchedule:
    """A Markov chain of Gaussian steps, complete or respaced, given by abar at each step.

    Coefficients are computed once in float64, stored in float32, and copied once per device.

    Args:
        alphas_cumprod: abar (steps,), float64, decreasing.
        timesteps: Times passed to the model at each step (steps,): indices of the complete chain.
    """

    def __init__(
        self, alphas_cumprod: Float64[Tensor, "steps"], timesteps: Int[Tensor, "steps"]
    ) -> None:
        self.alphas_cumprod = alphas_cumprod
        self.timesteps = timesteps
        previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
        self.betas = 1 - alphas_cumprod / previous
        tables = _compute_tables(alphas_cumprod, previous, self.betas, timesteps)
        self._tables = {torch.device("cpu"): tables}

    def __len__(self) -> int:
        return len(self.betas)

    def respaced(self, num_steps: int) -> "NoiseSchedule":
        """Restrict the chain to `num_steps` evenly spaced steps, see `respaced_timesteps`.

        Args:
            num_steps: How many steps to keep, from 2 to the length of the chain.

        Raises:
            ValueError: If `num_steps` is out of range.
        """
        chosen = respaced_timesteps(len(self), num_steps)
        return NoiseSchedule(self.alphas_cumprod[chosen], self.timesteps[chosen])

    def model_times(self, steps: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """Return the times passed to the model at these steps: indices of the complete chain.

        Args:
            steps: Indices into this chain.

        Returns:
            Times in float32, on the device of `steps`.
        """
        check_tensor("steps", steps, 1)
        return _take(self._tables_on(steps.device).timesteps, steps)

    def add_noise(
        self,
        x0: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        steps: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Sample x_t from q(x_t | x_0) = N(sqrt(abar) x_0, (1 - abar) I) (Ho et al., eq. 4).

        Args:
            x0: Clean images or latents.
            noise: Standard normal noise.
            steps: Index of the step of each sample.

        Returns:
            Noisy images or latents in the dtype of `x0`.
        """
        tables = self._tables_on(x0.device)
        return _at(tables.signal, steps, x0) * x0 + _at(tables.noise, steps, x0) * noise

    def predict_x0(
        self,
        xt: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        steps: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Solve `add_noise` for x_0 given x_t and the noise.

        Args:
            xt: Noisy images or latents.
            noise: The noise, usually as predicted.
            steps: Index of the step of each sample.
        """
        tables = self._tables_on(xt.device)
        return (xt - _at(tables.noise, steps, xt) * noise) / _at(tables.signal, steps, xt)

    def predict_noise(
        self,
        xt: Float[Tensor, "batch channels height width"],
        x0: Float[Tensor, "batch channels height width"],
        steps: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Solve `add_noise` for the noise given x_t and x_0.

        Args:
            xt: Noisy images or latents.
            x0: Clean images or latents, usually as predicted.
            steps: Index of the step of each sample.
        """
        tables = self._tables_on(xt.device)
        return (xt - _at(tables.signal, steps, xt) * x0) / _at(tables.noise, steps, xt)

    def posterior_mean(
        self,
        x0: Float[Tensor, "batch channels height width"],
        xt: Float[Tensor, "batch channels height width"],
        steps: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the mean of q(x_{t-1} | x_t, x_0) (Ho et al., eq. 7).

        Args:
            x0: Clean images or latents, usually as predicted.
            xt: Noisy images or latents.
            steps: Index of the step of each sample.
        """
        tables = self._tables_on(xt.device)
        return _at(tables.posterior_x0, steps, xt) * x0 + _at(tables.posterior_xt, steps, xt) * xt

    def posterior_log_variance(
        self, xt: Float[Tensor, "batch channels height width"], steps: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch 1 1 1"]:
        """Return the log variance of q(x_{t-1} | x_t, x_0).

        At step 0, where the variance is zero, the value of step 1 is returned, as in Nichol &
        Dhariwal 2021. The result has the dtype and device of `xt`.

        Args:
            xt: Noisy images or latents, of which only dtype and device matter.
            steps: Index of the step of each sample.
        """
        return _at(self._tables_on(xt.device).posterior_log_variance, steps, xt)

    def learned_log_variance(
        self, values: Float[Tensor, "batch channels height width"], steps: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Interpolate between the posterior log variance (value -1) and log beta (value 1).

        Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 15. Values outside [-1, 1] extrapolate.

        Args:
            values: Variance channels of the model, per element.
            steps: Index of the step of each sample.
        """
        upper = _at(self._tables_on(values.device).log_betas, steps, values)
        lower = self.posterior_log_variance(values, steps)
        fraction = (values + 1) / 2
        return fraction * upper + (1 - fraction) * lower

    def _tables_on(self, device: torch.device) -> _Tables:
        if device not in self._tables:
            self._tables[device] = self._tables[torch.device("cpu")].to(device)
        return self._tables[device]


def _compute_tables(
    alphas_cumprod: Tensor, previous: Tensor, betas: Tensor, timesteps: Tensor
) -> _Tables:
    variance = betas * (1 - previous) / (1 - alphas_cumprod)
    # The variance of the first posterior is 0 and has no logarithm: use that of the second.
    variance = torch.cat([variance[1:2], variance[1:]])
    return _Tables(
        timesteps=timesteps.float(),
        signal=alphas_cumprod.sqrt().float(),
        noise=(1 - alphas_cumprod).sqrt().float(),
        log_betas=betas.log().float(),
        posterior_log_variance=variance.log().float(),
        posterior_x0=(betas * previous.sqrt() / (1 - alphas_cumprod)).float(),
        posterior_xt=((1 - betas).sqrt() * (1 - previous) / (1 - alphas_cumprod)).float(),
    )


def _at(table: Tensor, steps: Tensor, like: Tensor) -> Tensor:
    return _take(table, steps).to(like.dtype).view(-1, 1, 1, 1)


def _take(table: Tensor, steps: Tensor) -> Tensor:
    check_tensor("steps", steps, 1)
    if steps.is_floating_point() or steps.dtype == torch.bool:
        raise ValueError(f"steps must be of an integer type, got {steps.dtype}")
    # A GPU would have to wait for the values.
    known = steps.is_cpu and runs_real_tensors()
    if known and not ((steps >= 0) & (steps < len(table))).all():
        raise ValueError(f"steps must lie in 0 .. {len(table) - 1}, got {shorten(steps.tolist())}")
    return table[steps]

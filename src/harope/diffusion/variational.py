"""The two terms of the variational bound, element by element, in nats."""

import torch
from jaxtyping import Float
from torch import Tensor

_HALF_BIN = 1 / 255
# Beyond these the outermost bins reach to infinity: all mass belongs to some bin.
_EDGE = 0.999
_MIN_PROBABILITY = 1e-12


def normal_kl(
    mean: Float[Tensor, "*shape"],
    log_variance: Float[Tensor, "*#shape"],
    other_mean: Float[Tensor, "*shape"],
    other_log_variance: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """Return KL(N(mean, exp(log_variance)) || N(other_mean, exp(other_log_variance)))."""
    log_ratio = log_variance - other_log_variance
    distance = (mean - other_mean).square() * torch.exp(-other_log_variance)
    return 0.5 * (log_ratio.exp() - 1 - log_ratio + distance)


def discretized_normal_nll(
    x: Float[Tensor, "*shape"],
    mean: Float[Tensor, "*shape"],
    log_variance: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """Return -log of the normal's mass in the bin of x, of 256 bins centred on [-1, 1].

    Ho et al. 2020 (arXiv 2006.11239), eq. 13. Probabilities are floored at 1e-12, which bounds
    the value and cuts the gradient there.
    """
    inverse_std = torch.exp(-0.5 * log_variance)
    lower = (x - mean - _HALF_BIN) * inverse_std
    upper = (x - mean + _HALF_BIN) * inverse_std
    above = torch.special.ndtr(-lower)
    below = torch.special.ndtr(upper)
    inside = _interval_mass(lower, upper)
    mass = torch.where(x < -_EDGE, below, torch.where(x > _EDGE, above, inside))
    return -mass.clamp(min=_MIN_PROBABILITY).log()


def _interval_mass(lower: Tensor, upper: Tensor) -> Tensor:
    # By symmetry taken on the left of zero, where the difference of two small numbers is exact.
    on_the_right = lower + upper > 0
    left = torch.where(on_the_right, -upper, lower)
    right = torch.where(on_the_right, -lower, upper)
    return torch.special.ndtr(right) - torch.special.ndtr(left)

"""The terms of the variational bound, per element and in nats."""

import torch
from jaxtyping import Float
from torch import Tensor

_HALF_BIN = 1 / 255
# Beyond +-_EDGE the bins extend to infinity, so that the masses of all bins sum to 1.
_EDGE = 0.999
_MIN_PROBABILITY = 1e-12


def normal_kl(
    mean: Float[Tensor, "*shape"],
    log_variance: Float[Tensor, "*#shape"],
    other_mean: Float[Tensor, "*shape"],
    other_log_variance: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """Compute KL(N(mean, exp(log_variance)) || N(other_mean, exp(other_log_variance))).

    Args:
        mean: Mean of the first normal distribution.
        log_variance: Log variance of the first, broadcast to the shape of the means.
        other_mean: Mean of the second.
        other_log_variance: Log variance of the second, broadcast likewise.

    Returns:
        The divergence of each element, in nats.
    """
    log_ratio = log_variance - other_log_variance
    distance = (mean - other_mean).square() * torch.exp(-other_log_variance)
    return 0.5 * (log_ratio.exp() - 1 - log_ratio + distance)


def discretized_normal_nll(
    x: Float[Tensor, "*shape"],
    mean: Float[Tensor, "*shape"],
    log_variance: Float[Tensor, "*#shape"],
) -> Float[Tensor, "*shape"]:
    """Compute the negative log likelihood of 8-bit pixels under a discretized normal distribution.

    [-1, 1] is divided into 256 bins, and each element's likelihood is the normal's mass in the bin
    of `x` (Ho et al. 2020, arXiv 2006.11239, eq. 13). Probabilities are clamped to at least 1e-12,
    which bounds the result and zeroes the gradient below.

    Args:
        x: Pixels in [-1, 1], at the centres of their bins.
        mean: Mean of the normal distribution.
        log_variance: Its log variance, broadcast to the shape of `x`.

    Returns:
        The negative log likelihood of each element, in nats.
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
    # The interval is mirrored to the left of zero, where both cumulative probabilities are small
    # and their difference loses no digits.
    on_the_right = lower + upper > 0
    left = torch.where(on_the_right, -upper, lower)
    right = torch.where(on_the_right, -lower, upper)
    return torch.special.ndtr(right) - torch.special.ndtr(left)

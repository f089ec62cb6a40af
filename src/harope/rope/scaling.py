"""Reading a resolution other than the trained one: positions or frequencies are rescaled.

Every axis is scaled on its own, by the ratio of the new length to the trained one.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

ScalingMethod = Literal["extrapolate", "interpolate", "ntk", "yarn"]

# A pair that turns more often than YARN_FAST over the trained length is left alone, one that turns
# less than YARN_SLOW is interpolated in full (YaRN, arXiv 2309.00071, section 3.2: beta, alpha).
YARN_FAST, YARN_SLOW = 32.0, 1.0


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How an encoding trained on one grid reads another."""

    method: ScalingMethod
    """extrapolate: positions as they are. interpolate: positions squeezed into the trained grid.
    ntk: a larger theta, so that only low frequencies stretch. yarn: by parts, per frequency."""

    train_sizes: tuple[int, ...]
    """Tokens per axis in training."""

    sizes: tuple[int, ...]
    """Tokens per axis now."""

    def __post_init__(self) -> None:
        if self.method not in get_args(ScalingMethod):
            raise ValueError(
                f"scaling method {self.method!r} is not one of {', '.join(get_args(ScalingMethod))}"
            )
        lengths = (*self.train_sizes, *self.sizes)
        if len(self.train_sizes) != len(self.sizes) or min(lengths, default=0) < 1:
            raise ValueError(
                f"train_sizes {self.train_sizes} and sizes {self.sizes} must be positive and name "
                f"the same axes: pass one length per axis in both"
            )

    @property
    def ratios(self) -> tuple[float, ...]:
        """New length over trained length, per axis."""
        return tuple(new / old for new, old in zip(self.sizes, self.train_sizes, strict=True))

    def flattened(self) -> "Scaling":
        """The same for the one axis of the row-major token index."""
        return Scaling(
            method=self.method,
            train_sizes=(math.prod(self.train_sizes),),
            sizes=(math.prod(self.sizes),),
        )


def spectrum(
    dim: int,
    theta: float,
    *,
    scaling: Scaling | None = None,
    axis: int = 0,
    device: torch.device | None = None,
) -> Float[Tensor, " pairs"]:
    """`theta^(-2j/dim)` for j < dim/2, in radians per unit of position, rescaled for `axis`.

    NTK-aware: theta * s^(dim/(dim-2)) for a length ratio s, which keeps the highest frequency and
    divides the lowest by s. YaRN: a ramp over the number of turns that a pair makes on the trained
    length; its attention temperature, fitted to language models, is not applied.
    """
    ratio = scaling.ratios[axis] if scaling else 1.0
    method = scaling.method if scaling else "extrapolate"
    if method == "ntk" and ratio != 1.0:
        if dim <= 2:
            raise ValueError(
                f"ntk scaling needs at least 4 channels on an axis, axis {axis} has {dim}: "
                f"use interpolate"
            )
        theta = theta * ratio ** (dim / (dim - 2))
    exponents = torch.arange(0, dim, 2, dtype=torch.float64) / -dim
    inv_freq = torch.pow(torch.tensor(theta, dtype=torch.float64), exponents)
    if method == "interpolate":
        inv_freq = inv_freq / ratio
    if method == "yarn":
        assert scaling is not None
        turns = scaling.train_sizes[axis] * inv_freq / (2 * math.pi)
        kept = ((turns - YARN_SLOW) / (YARN_FAST - YARN_SLOW)).clamp(0, 1)
        inv_freq = inv_freq * (kept + (1 - kept) / ratio)
    return inv_freq.to(device=device, dtype=torch.float32)


def rescale_positions(
    positions: Float[Tensor, "*batch tokens axes"], scaling: Scaling | None
) -> Float[Tensor, "*batch tokens axes"]:
    """Positions squeezed into the trained grid, where learned frequencies cannot be rescaled."""
    if scaling is None or scaling.method == "extrapolate":
        return positions
    return positions / positions.new_tensor(scaling.ratios)


def set_scaling(
    module: nn.Module,
    method: ScalingMethod,
    *,
    sizes: Sequence[int],
    train_sizes: Sequence[int],
) -> None:
    """Make every encoding inside `module` read a grid of `sizes` tokens after one of `train_sizes`.

    Raises ValueError when an encoding in it has another number of axes, or learned frequencies,
    which only positions can scale: no ntk, no yarn.
    """
    scaling = Scaling(method=method, sizes=tuple(sizes), train_sizes=tuple(train_sizes))
    for part in module.modules():
        if isinstance(part, Scalable):
            part.set_scaling(scaling)


class Scalable:
    """A part of an encoding that reads positions and so can be scaled."""

    num_axes: int
    scaling: Scaling | None = None

    @property
    @abstractmethod
    def learned(self) -> bool:
        """Whether its values depend on parameters: layers cannot share them then."""

    def set_scaling(self, scaling: Scaling | None) -> None:
        """Use `scaling` from now on; None is the trained grid."""
        if scaling is not None and len(scaling.sizes) != self.num_axes:
            raise ValueError(
                f"sizes {scaling.sizes} name {len(scaling.sizes)} axes but the encoding has "
                f"{self.num_axes}: pass one length per axis"
            )
        if scaling is not None and self.learned and scaling.method in ("ntk", "yarn"):
            raise ValueError(
                f"{scaling.method} scaling rescales a fixed spectrum but {type(self).__name__} "
                f"has learned values: use interpolate or extrapolate"
            )
        self.scaling = scaling

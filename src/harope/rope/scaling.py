"""Reading other resolutions than the trained one, by rescaling positions or frequencies.

Every axis is scaled by itself, by the ratio of its new length to its trained length.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope._utils.argument_checks import check_integer, check_module, check_real, check_sizes

ScalingMethod = Literal["extrapolate", "interpolate", "ntk", "yarn", "riflex"]


SPECTRAL_METHODS = ("ntk", "yarn", "riflex")
"""Methods that rescale frequencies, which must therefore form a spectrum for each axis."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How an encoding that was trained on one grid reads another."""

    method: ScalingMethod
    """extrapolate: positions are used as they are.
    interpolate: positions are squeezed into the trained grid.
    ntk: theta is enlarged, which stretches low frequencies only.
    yarn: every frequency is interpolated by the degree that its wavelength calls for.
    riflex: on the time axis t of (t, h, w), the one frequency that makes a video repeat itself is
    lowered until it does not turn once over the new length (arXiv 2502.15894)."""

    train_sizes: tuple[int, ...]
    """Tokens per axis in training."""

    sizes: tuple[int, ...]
    """Tokens per axis now."""

    attention_factor: float = 1.0
    """Factor on rotated queries and keys, so that scores grow by its square. YaRN proposes
    `0.1 ln(s) + 1` for a ratio s of the lengths, fitted to language models (arXiv 2309.00071,
    section 3.4)."""

    repeat_length: int | None = None
    """First frame at which the videos of the model repeat themselves, for riflex; None: the trained
    number of frames."""

    def __post_init__(self) -> None:
        if not isinstance(self.method, str) or self.method not in get_args(ScalingMethod):
            raise ValueError(
                f"scaling method {self.method!r} is not one of {', '.join(get_args(ScalingMethod))}"
            )
        check_sizes("train_sizes", self.train_sizes)
        check_sizes("sizes", self.sizes)
        lengths = (*self.train_sizes, *self.sizes)
        if len(self.train_sizes) != len(self.sizes) or min(lengths, default=0) < 1:
            raise ValueError(
                f"train_sizes {self.train_sizes} and sizes {self.sizes} must be positive and name "
                f"the same axes: pass one length per axis in both"
            )
        check_real("attention_factor", self.attention_factor)
        if self.attention_factor <= 0:
            raise ValueError(f"attention_factor {self.attention_factor} must be positive")
        if self.method == "riflex" and len(self.sizes) != 3:
            raise ValueError(
                f"riflex scaling lengthens the time axis of (t, h, w), but sizes {self.sizes} name "
                f"{len(self.sizes)} axes: use it for video, or another method"
            )
        if self.repeat_length is not None:
            check_integer("repeat_length", self.repeat_length, 1)
            if self.method != "riflex":
                raise ValueError(
                    f"repeat_length {self.repeat_length} has no effect with method "
                    f"{self.method!r}: leave it out"
                )

    @property
    def ratios(self) -> tuple[float, ...]:
        """New length over trained length, per axis."""
        return tuple(new / old for new, old in zip(self.sizes, self.train_sizes, strict=True))

    def flattened(self) -> "Scaling":
        """Return the same scaling for the single axis of the row-major token index."""
        return Scaling(
            method=self.method,
            train_sizes=(math.prod(self.train_sizes),),
            sizes=(math.prod(self.sizes),),
            attention_factor=self.attention_factor,
        )


class Scalable:
    """Part of an encoding that reads positions, and that `set_scaling` can therefore scale."""

    num_axes: int
    scaling: Scaling | None = None

    @property
    @abstractmethod
    def learned(self) -> bool:
        """Whether its values depend on parameters, so that layers cannot share them."""

    def set_scaling(self, scaling: Scaling | None) -> None:
        """Use `scaling` from now on; None restores the trained grid.

        Args:
            scaling: Trained and current resolution; None for the trained one.

        Raises:
            ValueError: If the scaling has another number of axes, or if the values are learned,
                which only extrapolate and interpolate support.
        """
        if scaling is not None:
            self.check_scaling(scaling)
        self.scaling = scaling

    def check_scaling(self, scaling: Scaling) -> None:
        """Raise the ValueError of `set_scaling` without changing anything.

        Args:
            scaling: Trained and current resolution.
        """
        if len(scaling.sizes) != self.num_axes:
            raise ValueError(
                f"sizes {scaling.sizes} name {len(scaling.sizes)} axes but the encoding has "
                f"{self.num_axes}: pass one length per axis"
            )
        if self.learned and scaling.method in SPECTRAL_METHODS:
            raise ValueError(
                f"{scaling.method} scaling rescales a fixed spectrum but {type(self).__name__} "
                f"has learned values: use interpolate or extrapolate"
            )


def set_scaling(
    module: nn.Module,
    method: ScalingMethod | None,
    *,
    sizes: Sequence[int] | None = None,
    train_sizes: Sequence[int] | None = None,
    attention_factor: float = 1.0,
    repeat_length: int | None = None,
) -> None:
    """Make every encoding inside `module` read a grid of `sizes` after training on `train_sizes`.

    Args:
        module: A model, a layer or a single encoding.
        method: How to scale, see `Scaling`; None restores the trained grid.
        sizes: Tokens per axis now; required with a method.
        train_sizes: Tokens per axis in training; required with a method.
        attention_factor: Factor on rotated queries and keys.
        repeat_length: First frame at which videos repeat themselves, for riflex.

    Raises:
        ValueError: If nothing inside `module` can be scaled, if an encoding has another number of
            axes, or for ntk, yarn and riflex if its frequencies are learned or mix the axes.
            Nothing is changed then.
    """
    check_module("module", module)
    parts = [part for part in module.modules() if isinstance(part, Scalable)]
    if not parts:
        raise ValueError(
            f"{type(module).__name__} contains no frequencies or embeddings of harope that can be "
            f"scaled: install an encoding that has them (models that keep their own rotation must "
            f"scale it themselves)"
        )
    scaling = None
    if method is None:
        if sizes is not None or train_sizes is not None:
            raise ValueError(
                f"method None restores the trained grid, but sizes {sizes} and train_sizes "
                f"{train_sizes} were given: leave them out, or pass a method"
            )
    elif sizes is None or train_sizes is None:
        raise ValueError(
            f"{method} scaling needs sizes and train_sizes, got {sizes} and {train_sizes}: pass "
            f"the tokens per axis now and in training"
        )
    else:
        check_sizes("sizes", sizes)
        check_sizes("train_sizes", train_sizes)
        scaling = Scaling(
            method=method,
            sizes=tuple(sizes),
            train_sizes=tuple(train_sizes),
            attention_factor=attention_factor,
            repeat_length=repeat_length,
        )
        for part in parts:
            part.check_scaling(scaling)
    for part in parts:
        part.set_scaling(scaling)


def rescale_positions(
    positions: Float[Tensor, "*batch tokens axes"], scaling: Scaling | None
) -> Float[Tensor, "*batch tokens axes"]:
    """Squeeze positions into the trained grid, as learned frequencies cannot be rescaled.

    Args:
        positions: One row per token.
        scaling: Trained and current resolution; None leaves positions as they are.
    """
    if scaling is None or scaling.method != "interpolate":
        return positions
    return positions / per_axis(scaling.ratios, positions)


def per_axis(
    values: Sequence[int | float], positions: Float[Tensor, "*batch tokens axes"]
) -> Float[Tensor, " axes"]:
    """Return one value per axis as a tensor like `positions`.

    The values are filled in on the device, which does not wait for a copy from the host.

    Args:
        values: One number per axis.
        positions: Tensor whose dtype and device the result has.
    """
    return torch.cat([positions.new_full((1,), value) for value in values])

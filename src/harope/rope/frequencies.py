"""Frequencies: positions to angles.

Every family is linear: the angle of pair i is f_i . p, with one wave vector f_i per pair, and per
head if heads differ. Families differ in nothing but their wave vectors.

Angles broadcast over (batch, heads, tokens, pairs). The heads axis is 1 or missing if all heads
have the same angles; the batch axis is missing if all samples have.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from harope.rope._fast.execution import float64_device
from harope.rope.config import Component, EncodingConfig
from harope.rope.positions import as_positions
from harope.rope.rotate import AnyRotationTable, rotation_table
from harope.rope.scaling import Scalable, Scaling, rescale_positions

# YaRN leaves pairs alone that turn more than YARN_FAST times over the trained length, and
# interpolates pairs completely that turn less than YARN_SLOW times (arXiv 2309.00071, section 3.2:
# beta, alpha).
YARN_FAST, YARN_SLOW = 32.0, 1.0
RIFLEX_TURNS = 0.9


class Frequencies(nn.Module, Scalable, Component):
    """Interface of all families: positions to angles."""

    part = "frequencies"
    options: ClassVar[tuple[str, ...]] = ("layout", "rotary_fraction", "rotary_spectrum")
    has_angles: ClassVar[bool] = True
    """Whether pairs of channels turn by angles, and not larger blocks by matrices."""
    head_dim: int

    @classmethod
    def check_config(cls, config: EncodingConfig) -> None:
        if config.rotary_fraction == 1:
            if config.rotary_spectrum != "own":
                raise ValueError(
                    f"rotary_spectrum {config.rotary_spectrum!r} has no effect while all pairs are "
                    f"rotated: leave it out, or set a rotary_fraction below 1"
                )
        elif config.rotary_spectrum == "own" and config.layout == "half":
            raise ValueError(
                "rotary_spectrum 'own' rotates the first channels, but layout 'half' pairs those "
                "of both halves of the head: use rotary_spectrum 'full', or layout 'interleaved'"
            )

    @abstractmethod
    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        """Compute the angles of all pairs in radians.

        Args:
            positions: One row per token, (tokens, axes) or (batch, tokens, axes).
        """

    def table(self, positions: Num[Tensor, "*batch tokens axes"]) -> AnyRotationTable:
        """Compute the rotations of all tokens.

        Args:
            positions: One row per token, (tokens, axes) or (batch, tokens, axes).
        """
        return rotation_table(self(positions))

    def blocks(self) -> tuple[int, ...]:
        """Return the pairs of each block with a spectrum of its own, from high to low."""
        return (self.head_dim // 2,)


class FixedFrequencies(Frequencies):
    """Frequencies without parameters: their wave vectors follow from the configuration."""

    learned = False

    @abstractmethod
    def wave_vectors(self, device: torch.device) -> Float[Tensor, "axes heads pairs"]:
        """Compute the wave vectors of all pairs, in float32, per head or for all heads (1).

        Args:
            device: Device of the result.
        """

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        positions = as_positions(positions, self.num_axes)
        return linear_angles(positions, self.wave_vectors(positions.device))


def spectrum(
    dim: int,
    theta: float,
    *,
    scale: float = 1.0,
    scaling: Scaling | None = None,
    axis: int = 0,
    device: torch.device | None = None,
) -> Float[Tensor, " pairs"]:
    """Compute the frequencies `scale * theta^(-2j/dim)` for j < dim/2, rescaled for an axis.

    NTK-aware scaling uses theta * s^(dim/(dim-2)) for a length ratio s, which keeps the highest
    frequency and divides the lowest by s. YaRN blends original and interpolated frequencies by a
    ramp over the number of turns that a pair makes on the trained length. RIFLEx lowers, on the
    time axis, the frequency whose period is nearest to the first repeated frame, to 0.9 turns over
    the new length (arXiv 2502.15894 and its code).

    Args:
        dim: Channels of the spectrum, two per frequency.
        theta: Base.
        scale: The highest frequency.
        scaling: Trained and current resolution; None for the trained one.
        axis: Axis of `scaling`.
        device: Device of the result.

    Returns:
        Frequencies in radians per unit of position, from high to low, computed in float64 and
        rounded to float32.

    Raises:
        ValueError: For ntk scaling of fewer than four channels.
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
    exponents = torch.arange(0, dim, 2, dtype=torch.float64, device=float64_device(device)) / -dim
    inv_freq = scale * torch.pow(theta, exponents)
    if method == "interpolate":
        inv_freq = inv_freq / ratio
    if method == "yarn":
        assert scaling is not None
        turns = scaling.train_sizes[axis] * inv_freq / (2 * math.pi)
        unscaled = ((turns - YARN_SLOW) / (YARN_FAST - YARN_SLOW)).clamp(0, 1)
        inv_freq = inv_freq * (unscaled + (1 - unscaled) / ratio)
    if method == "riflex" and axis == 0 and ratio > 1.0:
        assert scaling is not None
        repeat = scaling.repeat_length or scaling.train_sizes[0]
        nearest = ((2 * math.pi / inv_freq).round() - repeat).abs().argmin()
        lowered = inv_freq.clamp(max=RIFLEX_TURNS * 2 * math.pi / scaling.sizes[0])
        chosen = torch.arange(len(inv_freq), device=inv_freq.device) == nearest
        inv_freq = torch.where(chosen, lowered, inv_freq)
    return inv_freq.to(device=device, dtype=torch.float32)


class Raster(Frequencies):
    """RoPE of language models over images: `theta^(-2i/d)` times the row-major token index.

    Args:
        head_dim: Channels per head.
        num_axes: Numbers per position.
        theta: Base of the spectrum.
        row_sizes: Tokens per axis (the first axis does not matter); None takes them from the extent
            of the positions, which must then cover complete grids.
    """

    name = "raster"
    options = (*Frequencies.options, "theta", "row_sizes")

    def __init__(
        self,
        head_dim: int,
        num_axes: int,
        *,
        theta: float = 10000.0,
        row_sizes: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        check_head_dim(head_dim)
        if row_sizes is not None and len(row_sizes) != num_axes:
            raise ValueError(
                f"row_sizes {row_sizes} names {len(row_sizes)} axes but num_axes is {num_axes}: "
                f"pass one length per axis"
            )
        self.head_dim, self.num_axes, self.theta = head_dim, num_axes, theta
        self.row_sizes = row_sizes

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Raster":
        return cls(head_dim, num_axes, theta=config.theta, row_sizes=config.row_sizes)

    @classmethod
    def check_config(cls, config: EncodingConfig) -> None:
        super().check_config(config)
        if config.positions != "index":
            raise ValueError(
                f"raster frequencies count tokens, but positions are {config.positions!r}: use "
                f"positions 'index', or frequencies 'axial'"
            )

    @property
    def learned(self) -> bool:
        return False

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        positions = as_positions(positions, self.num_axes)
        scaling = self.scaling.flattened() if self.scaling else None
        vectors = spectrum(self.head_dim, self.theta, scaling=scaling, device=positions.device)
        return linear_angles(self._index(positions), vectors[None, None])

    def _index(self, positions: Tensor) -> Tensor:
        index = positions[..., 0]
        for axis in range(1, self.num_axes):
            column = positions[..., axis]
            index = index * (self.row_sizes[axis] if self.row_sizes else _extent(column)) + column
        return index[..., None]


class Axial(Frequencies):
    """A block of channels per axis: `theta^(-2j/d_a)` on axis a, blocks in axis order.

    Args:
        head_dim: Channels per head.
        num_axes: Numbers per position.
        theta: Base of the spectrum.
        scale: Factor on all frequencies.
        axes_dim: Channels d_a per axis; None for equal blocks.
        num_heads: Heads, used only for learned frequencies.
        learned: Whether every head has a copy of the spectrum as parameters (STRING).
    """

    name = "axial"
    options = (*Frequencies.options, "theta", "frequency_scale", "axes_dim", "learned_frequencies")

    def __init__(
        self,
        head_dim: int,
        num_axes: int,
        *,
        theta: float = 10000.0,
        scale: float = 1.0,
        axes_dim: tuple[int, ...] | None = None,
        num_heads: int = 1,
        learned: bool = False,
    ) -> None:
        super().__init__()
        self.head_dim, self.num_axes = head_dim, num_axes
        self.theta, self.scale = theta, scale
        self.axes_dim = axes_dim or _equal_axes(head_dim, num_axes)
        _check_axes_dim(self.axes_dim, head_dim, num_axes)
        if learned:
            start = torch.cat([spectrum(dim, theta, scale=scale) for dim in self.axes_dim])
            self.inv_freq: nn.Parameter | None = nn.Parameter(start.repeat(num_heads, 1))
        else:
            self.register_parameter("inv_freq", None)

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Axial":
        return cls(
            head_dim,
            num_axes,
            theta=config.theta,
            scale=config.frequency_scale,
            axes_dim=config.axes_dim,
            num_heads=num_heads,
            learned=config.learned_frequencies,
        )

    @property
    def learned(self) -> bool:
        return self.inv_freq is not None

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        positions = as_positions(positions, self.num_axes)
        if self.inv_freq is None:
            return linear_angles(positions, self._fixed(positions.device))
        owned = torch.block_diag(*(self.inv_freq.new_ones(1, dim // 2) for dim in self.axes_dim))
        return linear_angles(
            rescale_positions(positions, self.scaling), self.inv_freq * owned[:, None]
        )

    def _fixed(self, device: torch.device) -> Float[Tensor, "axes 1 pairs"]:
        blocks = [
            spectrum(
                dim,
                self.theta,
                scale=self.scale,
                scaling=self.scaling,
                axis=axis,
                device=device,
            )[None]
            for axis, dim in enumerate(self.axes_dim)
        ]
        return torch.block_diag(*blocks)[:, None]

    def blocks(self) -> tuple[int, ...]:
        return tuple(dim // 2 for dim in self.axes_dim)


class Mixed(Frequencies):
    """RoPE-Mixed: a learned wave vector per pair and head (Heo et al. 2024, arXiv 2403.13298).

    Initial magnitudes are `theta^(-2nj/d)` along the n columns of one random rotation per head: in
    2-D the first half of the pairs along a random direction phi, the second half perpendicular to
    it.

    Args:
        head_dim: Channels per head.
        num_axes: Numbers per position.
        num_heads: Heads.
        theta: Base of the initial spectrum.
    """

    name = "mixed"
    options = (*Frequencies.options, "theta")

    def __init__(
        self, head_dim: int, num_axes: int, *, num_heads: int = 1, theta: float = 10.0
    ) -> None:
        super().__init__()
        check_head_dim(head_dim)
        self.head_dim, self.num_axes, self.theta = head_dim, num_axes, theta
        self.wave_vectors = nn.Parameter(torch.empty(num_axes, num_heads, head_dim // 2))
        self.reset_parameters()

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Mixed":
        return cls(head_dim, num_axes, num_heads=num_heads, theta=config.theta)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sample new directions from torch's global generator."""
        num_axes, num_heads, pairs = self.wave_vectors.shape
        directions = _random_rotations(num_heads, num_axes)
        blocks = []
        for column, block in enumerate(torch.arange(pairs).tensor_split(num_axes)):
            j = torch.arange(len(block), dtype=torch.float32)
            magnitudes = self.theta ** (-2 * num_axes * j / self.head_dim)
            blocks.append(directions[:, :, column, None] * magnitudes)
        self.wave_vectors.copy_(torch.cat(blocks, dim=-1).transpose(0, 1))

    @property
    def learned(self) -> bool:
        return True

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        positions = as_positions(positions, self.num_axes)
        return linear_angles(rescale_positions(positions, self.scaling), self.wave_vectors)


def linear_angles(
    positions: Float[Tensor, "*batch tokens axes"], vectors: Float[Tensor, "axes heads pairs"]
) -> Float[Tensor, "*shape tokens pairs"]:
    """Compute f . p by elementwise products: matrix products may use TF32 or autocast.

    Args:
        positions: Positions, in float32 or float64.
        vectors: Wave vectors of all pairs, per head or for all heads (1).
    """
    vectors = promoted(vectors)
    if positions.ndim == 2 and vectors.shape[1] == 1:
        vectors = vectors[:, 0]
    else:
        positions, vectors = positions.unsqueeze(-3), vectors.unsqueeze(-2)
    angles = positions[..., 0, None] * vectors[0]
    for axis in range(1, len(vectors)):
        angles = angles + positions[..., axis, None] * vectors[axis]
    return angles


def promoted(values: Tensor) -> Tensor:
    """Return values in float32 or float64.

    Args:
        values: Such as parameters in bfloat16.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _extent(column: Float[Tensor, "*batch tokens"]) -> Float[Tensor, "*batch 1"]:
    """Return the number of grid lines from the first to the last position of each sample."""
    if column.shape[-1] == 0:
        return column.new_zeros(*column.shape[:-1], 1)
    return column.amax(-1, keepdim=True) - column.amin(-1, keepdim=True) + 1


def _random_rotations(num_heads: int, num_axes: int) -> Float[Tensor, "heads axes axes"]:
    """Sample uniform orthogonal matrices; in 2-D, rotations by a uniform angle with rows (y, x)."""
    if num_axes == 2:
        phi = 2 * math.pi * torch.rand(num_heads)
        along = torch.stack([phi.sin(), phi.cos()], dim=-1)
        across = torch.stack([phi.cos(), -phi.sin()], dim=-1)
        return torch.stack([along, across], dim=-1)
    q, r = torch.linalg.qr(torch.randn(num_heads, num_axes, num_axes))
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]


def check_head_dim(head_dim: int) -> None:
    """Raise ValueError unless channels can be split into pairs.

    Args:
        head_dim: Channels per head.
    """
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"head_dim {head_dim} cannot be split into pairs: it must be even")


def _equal_axes(head_dim: int, num_axes: int) -> tuple[int, ...]:
    check_head_dim(head_dim)
    if head_dim % (2 * num_axes):
        raise ValueError(
            f"head_dim {head_dim} cannot be shared equally by {num_axes} axes: it must be a "
            f"multiple of {2 * num_axes} (or pass axes_dim)"
        )
    return (head_dim // num_axes,) * num_axes


def _check_axes_dim(axes_dim: tuple[int, ...], head_dim: int, num_axes: int) -> None:
    if len(axes_dim) != num_axes:
        raise ValueError(
            f"axes_dim {axes_dim} names {len(axes_dim)} axes but num_axes is {num_axes}: "
            f"pass one entry per axis"
        )
    if sum(axes_dim) != head_dim or any(dim < 0 or dim % 2 for dim in axes_dim):
        raise ValueError(
            f"axes_dim {axes_dim} sums to {sum(axes_dim)} but head_dim is {head_dim}: "
            f"pass even entries that sum to head_dim"
        )

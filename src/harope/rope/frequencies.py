"""Frequencies: positions -> angles.

Every family is linear: the angle of pair i is f_i . p, with one wave vector f_i per pair (and per
head, where heads differ). They differ in the wave vectors alone.

Angles broadcast over (batch, heads, tokens, pairs): heads is 1 or missing where all heads agree,
batch is missing where all samples agree.
"""

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from harope.rope.positions import as_positions
from harope.rope.scaling import Scalable, rescale_positions, spectrum


class Frequencies(nn.Module, Scalable):
    """The interface: positions (tokens, axes) or (batch, tokens, axes) to angles in radians."""

    head_dim: int

    @abstractmethod
    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"], context: Tensor | None = None
    ) -> Float[Tensor, "*shape tokens pairs"]:
        """The angles; `context` is for families that depend on the input (none here does)."""


class Raster(Frequencies):
    """RoPE of language models over images: one row-major index per token, `theta^(-2i/d)`.

    The row length comes from `row_sizes` (tokens per axis, the first axis does not matter) or, by
    default, from the extent of the positions themselves, which must then hold whole grids.
    """

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

    @property
    def learned(self) -> bool:
        """Never."""
        return False

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"], context: Tensor | None = None
    ) -> Float[Tensor, "*shape tokens pairs"]:
        """Angles of the row-major index."""
        positions = as_positions(positions, self.num_axes)
        scaling = self.scaling.flattened() if self.scaling else None
        vectors = spectrum(self.head_dim, self.theta, scaling=scaling, device=positions.device)
        return linear_angles(self._index(positions), vectors[None, None])

    def _index(self, positions: Tensor) -> Tensor:
        index = positions[..., 0]
        for axis in range(1, self.num_axes):
            place = positions[..., axis]
            index = index * (self.row_sizes[axis] if self.row_sizes else _extent(place)) + place
        return index[..., None]


class Axial(Frequencies):
    """Each axis owns a block of channels: `theta^(-2j/d_a)` on axis a, blocks in axis order.

    With `learned`, every head owns a copy of the spectrum as parameters (STRING's frequencies).
    """

    def __init__(
        self,
        head_dim: int,
        num_axes: int,
        *,
        theta: float = 10000.0,
        axes_dim: tuple[int, ...] | None = None,
        num_heads: int = 1,
        learned: bool = False,
    ) -> None:
        super().__init__()
        self.head_dim, self.num_axes, self.theta = head_dim, num_axes, theta
        self.axes_dim = axes_dim or _equal_axes(head_dim, num_axes)
        _check_axes_dim(self.axes_dim, head_dim, num_axes)
        if learned:
            start = torch.cat([spectrum(dim, theta) for dim in self.axes_dim])
            self.inv_freq: nn.Parameter | None = nn.Parameter(start.repeat(num_heads, 1))
        else:
            self.register_parameter("inv_freq", None)

    @property
    def learned(self) -> bool:
        """Whether the spectrum is a parameter."""
        return self.inv_freq is not None

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"], context: Tensor | None = None
    ) -> Float[Tensor, "*shape tokens pairs"]:
        """Angles of axis a on the pairs of its block."""
        positions = as_positions(positions, self.num_axes)
        if self.inv_freq is None:
            return linear_angles(positions, self._fixed(positions.device))
        owned = torch.block_diag(*(self.inv_freq.new_ones(1, dim // 2) for dim in self.axes_dim))
        return linear_angles(
            rescale_positions(positions, self.scaling), self.inv_freq * owned[:, None]
        )

    def _fixed(self, device: torch.device) -> Float[Tensor, "axes 1 pairs"]:
        blocks = [
            spectrum(dim, self.theta, scaling=self.scaling, axis=axis, device=device)[None]
            for axis, dim in enumerate(self.axes_dim)
        ]
        return torch.block_diag(*blocks)[:, None]


class Mixed(Frequencies):
    """RoPE-Mixed: a learned wave vector per pair and head (Heo et al. 2024, arXiv 2403.13298).

    Starts from magnitudes `theta^(-2nj/d)` along the n columns of one random rotation per head:
    in 2-D the first half of the pairs along a random direction phi, the second half across it.
    """

    def __init__(
        self, head_dim: int, num_axes: int, *, num_heads: int = 1, theta: float = 10.0
    ) -> None:
        super().__init__()
        check_head_dim(head_dim)
        self.head_dim, self.num_axes, self.theta = head_dim, num_axes, theta
        self.wave_vectors = nn.Parameter(torch.empty(num_axes, num_heads, head_dim // 2))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new directions from torch's global generator."""
        num_axes, num_heads, pairs = self.wave_vectors.shape
        directions = _random_rotations(num_heads, num_axes)
        blocks = []
        for column, block in enumerate(torch.arange(pairs).tensor_split(num_axes)):
            place = torch.arange(len(block), dtype=torch.float32)
            magnitudes = self.theta ** (-2 * num_axes * place / self.head_dim)
            blocks.append(directions[:, :, column, None] * magnitudes)
        self.wave_vectors.copy_(torch.cat(blocks, dim=-1).transpose(0, 1))

    @property
    def learned(self) -> bool:
        """Always."""
        return True

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"], context: Tensor | None = None
    ) -> Float[Tensor, "*shape tokens pairs"]:
        """Angles f . p, per head."""
        positions = as_positions(positions, self.num_axes)
        return linear_angles(rescale_positions(positions, self.scaling), self.wave_vectors)


class Video(Frequencies):
    """VideoRoPE (arXiv 2502.05173): one spectrum, the low quarter for t, the rest h, w, h, w.

    Axes are (t, h, w), or (h, w) for a still image, where the pairs of t turn by nothing.
    """

    def __init__(self, head_dim: int, num_axes: int, *, theta: float = 10000.0) -> None:
        super().__init__()
        check_head_dim(head_dim)
        if num_axes not in (2, 3):
            raise ValueError(
                f"video frequencies need the axes (h, w) or (t, h, w), got num_axes {num_axes}: "
                f"pass 2 or 3, or use axial"
            )
        self.head_dim, self.num_axes, self.theta = head_dim, num_axes, theta

    @property
    def learned(self) -> bool:
        """Never."""
        return False

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"], context: Tensor | None = None
    ) -> Float[Tensor, "*shape tokens pairs"]:
        """Angles of each pair on the one axis that owns it."""
        positions = as_positions(positions, self.num_axes)
        pairs = self.head_dim // 2
        spatial = pairs - pairs // 4
        vectors = torch.zeros(3, pairs)
        for axis in range(3 - self.num_axes, 3):
            full = spectrum(
                self.head_dim, self.theta, scaling=self.scaling, axis=axis - 3 + self.num_axes
            )
            owned = slice(spatial, None) if axis == 0 else slice(axis - 1, spatial, 2)
            vectors[axis, owned] = full[owned]
        return linear_angles(positions, vectors[3 - self.num_axes :, None].to(positions.device))


def linear_angles(
    positions: Float[Tensor, "*batch tokens axes"], vectors: Float[Tensor, "axes heads pairs"]
) -> Float[Tensor, "*shape tokens pairs"]:
    """f . p as elementwise products: a matrix product may run in TF32 or under autocast."""
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    if positions.ndim == 2 and vectors.shape[1] == 1:
        vectors = vectors[:, 0]
    else:
        positions, vectors = positions.unsqueeze(-3), vectors.unsqueeze(-2)
    angles = positions[..., 0, None] * vectors[0]
    for axis in range(1, len(vectors)):
        angles = angles + positions[..., axis, None] * vectors[axis]
    return angles


def _extent(place: Float[Tensor, "*batch tokens"]) -> Float[Tensor, "*batch 1"]:
    """Places between the first and the last, both counted, of each sample."""
    return place.amax(-1, keepdim=True) - place.amin(-1, keepdim=True) + 1


def _random_rotations(num_heads: int, num_axes: int) -> Float[Tensor, "heads axes axes"]:
    """Uniform random orthogonal matrices; in 2-D, rotations by a uniform angle, (y, x) rows."""
    if num_axes == 2:
        phi = 2 * math.pi * torch.rand(num_heads)
        along = torch.stack([phi.sin(), phi.cos()], dim=-1)
        across = torch.stack([phi.cos(), -phi.sin()], dim=-1)
        return torch.stack([along, across], dim=-1)
    q, r = torch.linalg.qr(torch.randn(num_heads, num_axes, num_axes))
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]


def check_head_dim(head_dim: int) -> None:
    """Raise ValueError unless channels can be paired."""
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

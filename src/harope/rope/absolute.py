"""Absolute embeddings: position -> a vector as wide as the tokens."""

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from harope.rope._fast.precision import without_autocast
from harope.rope.positions import as_positions
from harope.rope.scaling import Scalable, rescale_positions, spectrum


class AbsoluteEmbedding(nn.Module, Scalable):
    """The interface: positions (tokens, axes) or (batch, tokens, axes) to (..., tokens, width)."""

    num_axes: int

    @abstractmethod
    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"]:
        """The embedding in float32 or better."""


class SinCos(AbsoluteEmbedding):
    """Fixed sines and cosines: per axis [sin, cos] of `theta^(-2j/d_a)`, the last axis first.

    (x, then y) for images is the order of MAE (arXiv 2111.06377) and of the DiT family.
    """

    def __init__(self, width: int, num_axes: int, *, theta: float = 10000.0) -> None:
        super().__init__()
        if width % (2 * num_axes):
            raise ValueError(
                f"width {width} cannot hold sines and cosines of {num_axes} axes: num_heads * "
                f"head_dim must be a multiple of {2 * num_axes}"
            )
        self.width, self.num_axes, self.theta = width, num_axes, theta

    @property
    def learned(self) -> bool:
        """Never."""
        return False

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"]:
        """Sines and cosines of every axis."""
        positions = as_positions(positions, self.num_axes)
        blocks = []
        for axis in reversed(range(self.num_axes)):
            inv_freq = spectrum(
                self.width // self.num_axes,
                self.theta,
                scaling=self.scaling,
                axis=axis,
                device=positions.device,
            )
            angles = positions[..., axis, None] * inv_freq
            blocks += [angles.sin(), angles.cos()]
        return torch.cat(blocks, dim=-1)


class Learned(AbsoluteEmbedding):
    """One learned vector per place of a grid, linear in between, the border's value outside.

    Another resolution reads it by positions: scale them with `interpolate` to stretch the grid.
    """

    def __init__(self, width: int, grid_sizes: tuple[int, ...]) -> None:
        super().__init__()
        if not 1 <= len(grid_sizes) <= 3:
            raise ValueError(
                f"a learned embedding spans 1 to 3 axes, got grid_sizes {grid_sizes}: use sincos"
            )
        self.num_axes, self.grid_sizes = len(grid_sizes), grid_sizes
        self.table = nn.Parameter(torch.empty(math.prod(grid_sizes), width))
        nn.init.trunc_normal_(self.table, std=0.02)

    @property
    def learned(self) -> bool:
        """Always."""
        return True

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"]:
        """The table read at the positions."""
        positions = as_positions(positions, self.num_axes)
        wide = torch.promote_types(self.table.dtype, torch.float32)
        table = self.table.to(wide).T.unflatten(1, self.grid_sizes)
        sizes = positions.new_tensor(self.grid_sizes)
        places = rescale_positions(positions, self.scaling) / (sizes - 1).clamp(min=1) * 2 - 1
        if self.num_axes == 1:
            table, places = table[:, None], F.pad(places, (1, 0))
        lone = (1,) * (table.ndim - 2)
        flat = places.flatten(0, -2).flip(-1).to(wide).view(1, -1, *lone, table.ndim - 1)
        with without_autocast(table):
            out = F.grid_sample(table[None], flat, padding_mode="border", align_corners=True)
        return out.flatten(2)[0].T.unflatten(0, positions.shape[:-1])

"""Absolute embeddings: positions to vectors that are added to the tokens."""

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from harope.rope._fast.execution import without_autocast
from harope.rope.config import Component, EncodingConfig
from harope.rope.frequencies import spectrum
from harope.rope.positions import as_positions
from harope.rope.scaling import Scalable, per_axis, rescale_positions


class AbsoluteEmbedding(nn.Module, Scalable, Component):
    """Interface of all absolute embeddings: positions to vectors."""

    part = "embedding"
    num_axes: int

    @abstractmethod
    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"]:
        """Compute the embedding in float32 or float64.

        Args:
            positions: One row per token, (tokens, axes) or (batch, tokens, axes).
        """


class SinCos(AbsoluteEmbedding):
    """Fixed sines and cosines: per axis [sin, cos] of `theta^(-2j/d_a)`, the last axis first.

    For images, x before y is the order of MAE (arXiv 2111.06377) and DiT.

    Args:
        width: Channels of the tokens.
        num_axes: Numbers per position.
        theta: Base of the spectrum.
    """

    name = "sincos"
    options = ("theta",)

    def __init__(self, width: int, num_axes: int, *, theta: float = 10000.0) -> None:
        super().__init__()
        if width % (2 * num_axes):
            raise ValueError(
                f"width {width} cannot hold sines and cosines of {num_axes} axes: num_heads * "
                f"head_dim must be a multiple of {2 * num_axes}"
            )
        self.width, self.num_axes, self.theta = width, num_axes, theta

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "SinCos":
        return cls(num_heads * head_dim, num_axes, theta=config.theta)

    @property
    def learned(self) -> bool:
        return False

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"]:
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
    """A learned vector per grid point, interpolated linearly between them, constant beyond them.

    For other resolutions, scale positions with `interpolate`, which stretches the grid.

    Args:
        width: Channels of the tokens.
        grid_sizes: Tokens per axis in training, for 1 to 3 axes.
    """

    name = "learned"
    options = ("grid_sizes",)

    def __init__(self, width: int, grid_sizes: tuple[int, ...]) -> None:
        super().__init__()
        if not 1 <= len(grid_sizes) <= 3:
            raise ValueError(
                f"a learned embedding spans 1 to 3 axes, got grid_sizes {grid_sizes}: use sincos"
            )
        self.num_axes, self.grid_sizes = len(grid_sizes), grid_sizes
        self.table = nn.Parameter(torch.empty(math.prod(grid_sizes), width))
        nn.init.trunc_normal_(self.table, std=0.02)

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Learned":
        sizes = config.grid_sizes
        if sizes is None or len(sizes) != num_axes:
            raise ValueError(
                f"a learned embedding needs grid_sizes for {num_axes} axes, got {sizes}: "
                f"pass the tokens per axis in training"
            )
        return cls(num_heads * head_dim, sizes)

    @property
    def learned(self) -> bool:
        return True

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"]:
        positions = as_positions(positions, self.num_axes)
        wide = torch.promote_types(self.table.dtype, torch.float32)
        table = self.table.to(wide).T.unflatten(1, self.grid_sizes)
        sizes = per_axis(self.grid_sizes, positions)
        points = rescale_positions(positions, self.scaling) / (sizes - 1).clamp(min=1) * 2 - 1
        if self.num_axes == 1:
            table, points = table[:, None], F.pad(points, (1, 0))
        # grid_sample expects coordinates in [-1, 1], x before y, shaped like an image.
        singles = (1,) * (table.ndim - 2)
        points = points.flatten(0, -2).flip(-1).to(wide).view(1, -1, *singles, table.ndim - 1)
        with without_autocast(table):
            out = F.grid_sample(table[None], points, padding_mode="border", align_corners=True)
        return out.flatten(2)[0].T.unflatten(0, positions.shape[:-1])

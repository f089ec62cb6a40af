"""Circulant generators: a family of frequencies for the Fourier basis."""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from harope.rope._fast.precision import without_autocast
from harope.rope.config import EncodingConfig
from harope.rope.frequencies import Frequencies, check_head_dim, linear_angles, spectrum
from harope.rope.positions import as_positions
from harope.rope.scaling import rescale_positions


class Circulant(Frequencies):
    """STRING-circulant (arXiv 2502.02562): R(p) = exp(sum_a p_a (C_a - C_a^T)), C_a circulant.

    All circulant matrices are diagonal in the Fourier basis, in which C_a - C_a^T with first column
    c_a has the eigenvalues 2i Im FFT(c_a). In the basis `fourier`, pair j is therefore rotated by
    `2 sum_a p_a Im FFT(c_a)_j`. Pair 0 contains the constant and the alternating wave and is never
    rotated.

    The initial columns give RoPE's spectrum, assigned to the axes in turn; its lowest frequency
    goes to the pair that is not rotated.

    Args:
        head_dim: Channels per head.
        num_axes: Numbers per position.
        num_heads: Heads.
        theta: Base of the initial spectrum.
    """

    name = "circulant"
    options = ("theta", "layout")

    def __init__(
        self, head_dim: int, num_axes: int, *, num_heads: int = 1, theta: float = 10000.0
    ) -> None:
        super().__init__()
        check_head_dim(head_dim)
        self.head_dim, self.num_axes, self.theta = head_dim, num_axes, theta
        self.columns = nn.Parameter(torch.empty(num_axes, num_heads, head_dim))
        self.reset_parameters()

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Circulant":
        return cls(head_dim, num_axes, num_heads=num_heads, theta=config.theta)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the columns that give RoPE's spectrum from pair 1 on, with pair j on axis j mod n."""
        pairs = torch.arange(self.head_dim // 2)
        owned = pairs % self.num_axes == torch.arange(self.num_axes)[:, None]
        angles = spectrum(self.head_dim, self.theta).roll(1) * owned
        # c = sum_j s_j w_j with w_j the sine wave j: Im FFT(w_j)_j = -d/2.
        columns = -angles @ self._waves() / self.head_dim
        self.columns.copy_(columns[:, None].expand_as(self.columns))

    def _waves(self, device: torch.device | None = None) -> Float[Tensor, "pairs head_dim"]:
        channel = torch.arange(self.head_dim, device=device)
        cycles = torch.outer(channel[: self.head_dim // 2], channel) % self.head_dim
        return torch.sin(2 * math.pi / self.head_dim * cycles.double()).float()

    @property
    def learned(self) -> bool:
        return True

    def forward(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        # 2 Im FFT(c) by a real sine transform.
        positions = as_positions(positions, self.num_axes)
        with without_autocast(positions):
            columns = self.columns.to(torch.promote_types(self.columns.dtype, torch.float32))
            vectors = -2 * columns @ self._waves(columns.device).T.to(columns.dtype)
        return linear_angles(rescale_positions(positions, self.scaling), vectors)

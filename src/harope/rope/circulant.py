"""STRING-circulant: circulant generators as frequencies, and the basis that makes them rotations.

All circulant matrices are diagonal in the Fourier basis (STRING, arXiv 2502.02562).
"""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from harope.rope._fast.execution import float64_device, without_autocast
from harope.rope._fast.precision import exact_matmul
from harope.rope.basis import Basis, MatrixPair
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
    options = (*Frequencies.options, "theta")

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
        columns = -angles @ _wave_angles(self.head_dim).sin().float() / self.head_dim
        self.columns.copy_(columns[:, None].expand_as(self.columns))

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
            waves = _wave_angles(self.head_dim, columns.device).sin().float()
            by_axis = waves.T.to(columns).expand(self.num_axes, -1, -1)
            vectors = exact_matmul(-2 * columns, by_axis)
        return linear_angles(rescale_positions(positions, self.scaling), vectors)


class Fourier(Basis):
    """The fixed real Fourier basis, in which all circulant matrices are rotations (STRING).

    Row 2f is the cosine and row 2f + 1 the negative sine of wave f, so that rotating pair f by
    2 Im FFT(c)_f is exp(C - C^T). Rows 0 and 1 are the constant and the alternating wave.

    Args:
        head_dim: Channels per head.
    """

    name = "fourier"
    _device_anchor: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        # There are no parameters to tell on which device the matrix is needed.
        self.register_buffer("_device_anchor", torch.empty(0), persistent=False)

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Fourier":
        return cls(head_dim)

    @classmethod
    def check_config(cls, config: EncodingConfig) -> None:
        if config.layout != "interleaved":
            raise ValueError(
                f"basis 'fourier' pairs neighbouring waves but layout is {config.layout!r}: "
                f"use 'interleaved'"
            )

    def forward(self) -> MatrixPair | None:
        """Compute one orthogonal matrix for queries and keys of all heads, in float32."""
        # Loading with assign=True leaves the buffer of a model that was built on meta there.
        device = None if self._device_anchor.is_meta else self._device_anchor.device
        angles = _wave_angles(self.head_dim, device)
        rows = torch.stack([angles.cos(), -angles.sin()], dim=1) * (2 / self.head_dim) ** 0.5
        alternating = 1 - 2 * (torch.arange(self.head_dim, device=angles.device) % 2)
        rows[0, 0].fill_(self.head_dim**-0.5)
        rows[0, 1] = self.head_dim**-0.5 * alternating
        matrix = rows.flatten(0, 1)[None].to(device=device, dtype=torch.float32)
        return matrix, matrix


def _wave_angles(
    head_dim: int, device: torch.device | None = None
) -> Float[Tensor, "pairs head_dim"]:
    """Return the angle 2 pi f n / head_dim of wave f at channel n, in float64."""
    channel = torch.arange(head_dim, device=float64_device(device))
    cycles = torch.outer(channel[: head_dim // 2], channel) % head_dim
    return cycles.double() * (2 * math.pi / head_dim)

"""Bases: the matrices A_q and A_k that each head applies to its queries and keys.

    pairing "inverse"   A_q = M, A_k = M^-T    HARoPE as published at CVPR 2026 and its released
                                               weights, with M = A^T there; score q^T A R A^-1 k,
                                               which is q . k at zero offset
    pairing "same"      A_q = A_k = A          arXiv 2510.10489v1, equation 7: score q^T A^T R A k

All learned bases are initialised to the identity, so that a model starts exactly at its rotary
baseline. Matrices are computed in float32 or float64 whatever the dtype of the parameters, and
outside autocast.
"""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from harope.rope._fast.precision import without_autocast
from harope.rope.config import Component, EncodingConfig, Pairing
from harope.rope.orthogonal import OrthogonalMap, num_skew_entries, orthogonal_from_entries

MatrixPair = tuple[
    Float[Tensor, "matrices head_dim head_dim"], Float[Tensor, "matrices head_dim head_dim"]
]

# log(e - 1), where softplus is 1.
SOFTPLUS_ONE = 0.541324854612918


class Basis(nn.Module, Component):
    """Interface of all bases: the pair (A_q, A_k)."""

    part = "basis"

    @abstractmethod
    def forward(self) -> MatrixPair | None:
        """Compute (A_q, A_k), each (heads or 1, head_dim, head_dim); None for the identity."""

    def regularization(self) -> Float[Tensor, ""] | None:
        """Return the mean of log(s)^2 over the singular values s; None for bases without s."""
        return None


class Identity(Basis):
    """No basis: plain rotary encodings."""

    name = "identity"

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Identity":
        return cls()

    def forward(self) -> MatrixPair | None:
        return None


class Diagonal(Basis):
    """A = diag(s) with s = softplus(raw) > 0.

    Args:
        num_matrices: One per head, or 1 for all heads.
        head_dim: Channels per head.
        pairing: Relation of A_k to A_q.
    """

    name = "diagonal"
    options = ("per_head", "pairing")

    def __init__(self, num_matrices: int, head_dim: int, *, pairing: Pairing = "inverse") -> None:
        super().__init__()
        self.pairing = pairing
        self.raw_scale = nn.Parameter(torch.full((num_matrices, head_dim), SOFTPLUS_ONE))

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Diagonal":
        return cls(num_heads if config.per_head else 1, head_dim, pairing=config.pairing)

    def forward(self) -> MatrixPair | None:
        scale = _scale(self.raw_scale)
        return scale.diag_embed(), (1 / scale if self.pairing == "inverse" else scale).diag_embed()

    def regularization(self) -> Float[Tensor, ""] | None:
        return _scale(self.raw_scale).log().square().mean()


class GeneratorBasis(Basis):
    """A basis that is built from rotations, which are given by skew-symmetric generators.

    `forward` is split in two, because models put the generators of all layers through one
    exponential (`batched_matrices`).
    """

    head_dim: int
    orthogonal_map: OrthogonalMap

    @abstractmethod
    def entries(self) -> Float[Tensor, "rotations entries"]:
        """Return the entries above the diagonal of the generators of all rotations."""

    @abstractmethod
    def assemble(self, rotations: Float[Tensor, "rotations head_dim head_dim"]) -> MatrixPair:
        """Compute (A_q, A_k) from the rotations that `entries` generate."""

    def forward(self) -> MatrixPair | None:
        entries = self.entries()
        return self.assemble(orthogonal_from_entries(entries, self.head_dim, self.orthogonal_map))


class Orthogonal(GeneratorBasis):
    """A = exp(S) or (I - S)(I + S)^-1 with S skew-symmetric.

    As A^-T = A, both pairings are the same.

    Args:
        num_matrices: One per head, or 1 for all heads.
        head_dim: Channels per head.
        orthogonal_map: Map from S to A.
    """

    name = "orthogonal"
    options = ("per_head", "orthogonal_map")

    def __init__(
        self, num_matrices: int, head_dim: int, *, orthogonal_map: OrthogonalMap = "exp"
    ) -> None:
        super().__init__()
        self.head_dim, self.orthogonal_map = head_dim, orthogonal_map
        self.skew = nn.Parameter(torch.zeros(num_matrices, num_skew_entries(head_dim)))

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Orthogonal":
        num_matrices = num_heads if config.per_head else 1
        return cls(num_matrices, head_dim, orthogonal_map=config.orthogonal_map)

    def entries(self) -> Float[Tensor, "rotations entries"]:
        return self.skew

    def assemble(self, rotations: Float[Tensor, "rotations head_dim head_dim"]) -> MatrixPair:
        return rotations, rotations


class SVD(GeneratorBasis):
    """A = U diag(s) V^T with U, V orthogonal and s = softplus(raw) > 0 (HARoPE, equation 6).

    Args:
        num_matrices: One per head, or 1 for all heads.
        head_dim: Channels per head.
        pairing: Relation of A_k to A_q.
        orthogonal_map: Map from skew-symmetric generators to U and V.
    """

    name = "svd"
    options = ("per_head", "pairing", "orthogonal_map")

    def __init__(
        self,
        num_matrices: int,
        head_dim: int,
        *,
        pairing: Pairing = "inverse",
        orthogonal_map: OrthogonalMap = "exp",
    ) -> None:
        super().__init__()
        self.head_dim, self.pairing, self.orthogonal_map = head_dim, pairing, orthogonal_map
        entries = num_skew_entries(head_dim)
        self.skew_u = nn.Parameter(torch.zeros(num_matrices, entries))
        self.skew_v = nn.Parameter(torch.zeros(num_matrices, entries))
        self.raw_scale = nn.Parameter(torch.full((num_matrices, head_dim), SOFTPLUS_ONE))

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "SVD":
        return cls(
            num_heads if config.per_head else 1,
            head_dim,
            pairing=config.pairing,
            orthogonal_map=config.orthogonal_map,
        )

    def entries(self) -> Float[Tensor, "rotations entries"]:
        """Return the entries of U's generators, then those of V's."""
        return torch.cat([self.skew_u, self.skew_v])

    def assemble(self, rotations: Float[Tensor, "rotations head_dim head_dim"]) -> MatrixPair:
        u, v = rotations.chunk(2)
        scale = _scale(self.raw_scale)[:, None]
        with without_autocast(u):
            matrix = (u * scale) @ v.mT
            # (U diag(s) V^T)^-T = U diag(1/s) V^T
            return matrix, (u / scale) @ v.mT if self.pairing == "inverse" else matrix

    def regularization(self) -> Float[Tensor, ""] | None:
        return _scale(self.raw_scale).log().square().mean()


class Free(Basis):
    """An unconstrained matrix A ("normal" in the ablation of the HARoPE paper).

    Args:
        num_matrices: One per head, or 1 for all heads.
        head_dim: Channels per head.
        pairing: Relation of A_k to A_q.
    """

    name = "free"
    options = ("per_head", "pairing")

    def __init__(self, num_matrices: int, head_dim: int, *, pairing: Pairing = "inverse") -> None:
        super().__init__()
        self.pairing = pairing
        self.matrix = nn.Parameter(torch.eye(head_dim).repeat(num_matrices, 1, 1))

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "Free":
        return cls(num_heads if config.per_head else 1, head_dim, pairing=config.pairing)

    def forward(self) -> MatrixPair | None:
        matrix = self.matrix.to(torch.promote_types(self.matrix.dtype, torch.float32))
        with without_autocast(matrix):
            return matrix, torch.linalg.inv(matrix).mT if self.pairing == "inverse" else matrix


class Fourier(Basis):
    """The fixed real Fourier basis, in which all circulant matrices are rotations (STRING).

    Row 2f is the cosine and row 2f + 1 the negative sine of wave f, so that rotating pair f by
    2 Im FFT(c)_f is exp(C - C^T). Rows 0 and 1 are the constant and the alternating wave.

    Args:
        head_dim: Channels per head.
    """

    name = "fourier"

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim

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
        """Compute one orthogonal matrix for queries and keys of all heads."""
        channel = torch.arange(self.head_dim)
        cycles = torch.outer(channel[: self.head_dim // 2], channel) % self.head_dim
        phase = cycles.double() * (2 * torch.pi / self.head_dim)
        rows = torch.stack([phase.cos(), -phase.sin()], dim=1) * (2 / self.head_dim) ** 0.5
        rows[0, 0] = self.head_dim**-0.5
        rows[0, 1] = self.head_dim**-0.5 * (1 - 2 * (channel % 2))
        matrix = rows.flatten(0, 1)[None].float()
        return matrix, matrix


def _scale(raw: Float[Tensor, "matrices head_dim"]) -> Float[Tensor, "matrices head_dim"]:
    return F.softplus(raw.to(torch.promote_types(raw.dtype, torch.float32)))

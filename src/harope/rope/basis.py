"""Bases: the matrices A_q and A_k that each head applies to its queries and keys.

    pairing "inverse"   A_q = M, A_k = M^-T    HARoPE as published at CVPR 2026 and its released
                                               weights, with M = A^T there; score q^T A R A^-1 k,
                                               which is q . k at zero offset
    pairing "same"      A_q = A_k = A          arXiv 2510.10489v1, equation 7: score q^T A^T R A k

All learned bases start at A = I, so that a model starts exactly at its rotary baseline. Matrices
are computed in float32 or better whatever the dtype of the parameters, and outside autocast.
"""

from abc import abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from harope.rope._fast.precision import without_autocast
from harope.rope.orthogonal import OrthogonalMap, num_skew_entries, orthogonal_from_entries

Pairing = Literal["same", "inverse"]
MatrixPair = tuple[
    Float[Tensor, "matrices head_dim head_dim"], Float[Tensor, "matrices head_dim head_dim"]
]

# softplus(SOFTPLUS_ONE) = 1: log(e - 1).
SOFTPLUS_ONE = 0.541324854612918


class Basis(nn.Module):
    """The interface: the pair (A_q, A_k), each (heads or 1, head_dim, head_dim)."""

    @abstractmethod
    def forward(self, context: Tensor | None = None) -> MatrixPair | None:
        """The matrices in float32 or better; None where they are the identity.

        `context` is for bases that depend on the input (none here does).
        """

    def regularization(self) -> Float[Tensor, ""] | None:
        """Penalty that keeps singular values near one: the mean of log(s)^2. None without s."""
        return None


class Identity(Basis):
    """No basis: plain rotary encodings."""

    def forward(self, context: Tensor | None = None) -> MatrixPair | None:
        """None."""
        return None


class Diagonal(Basis):
    """A = diag(s), s = softplus(raw) > 0."""

    def __init__(self, num_matrices: int, head_dim: int, *, pairing: Pairing = "inverse") -> None:
        super().__init__()
        self.pairing = pairing
        self.raw_scale = nn.Parameter(torch.full((num_matrices, head_dim), SOFTPLUS_ONE))

    def forward(self, context: Tensor | None = None) -> MatrixPair | None:
        """diag(s), and diag(1/s) for keys under inverse pairing."""
        scale = _scale(self.raw_scale)
        return scale.diag_embed(), (1 / scale if self.pairing == "inverse" else scale).diag_embed()

    def regularization(self) -> Float[Tensor, ""] | None:
        """Mean of log(s)^2."""
        return _scale(self.raw_scale).log().square().mean()


class Generated(Basis):
    """A basis made of rotations from skew generators.

    Models put the generators of all layers through one exponential (`batched_matrices`), so the two
    halves of `forward` stand on their own.
    """

    head_dim: int
    orthogonal_map: OrthogonalMap

    @abstractmethod
    def entries(self) -> Float[Tensor, "rotations entries"]:
        """Entries of the skew generators of all its rotations."""

    @abstractmethod
    def assemble(self, rotations: Float[Tensor, "rotations head_dim head_dim"]) -> MatrixPair:
        """The matrices, from the rotations that `entries` generate."""

    def forward(self, context: Tensor | None = None) -> MatrixPair | None:
        """Generators to rotations to matrices."""
        entries = self.entries()
        return self.assemble(orthogonal_from_entries(entries, self.head_dim, self.orthogonal_map))


class Orthogonal(Generated):
    """A = exp(S) or (I - S)(I + S)^-1, S skew: both pairings are the same, as A^-T = A."""

    def __init__(
        self, num_matrices: int, head_dim: int, *, orthogonal_map: OrthogonalMap = "exp"
    ) -> None:
        super().__init__()
        self.head_dim, self.orthogonal_map = head_dim, orthogonal_map
        self.skew = nn.Parameter(torch.zeros(num_matrices, num_skew_entries(head_dim)))

    def entries(self) -> Float[Tensor, "rotations entries"]:
        """Those of S."""
        return self.skew

    def assemble(self, rotations: Float[Tensor, "rotations head_dim head_dim"]) -> MatrixPair:
        """The orthogonal matrix, twice."""
        return rotations, rotations


class SVD(Generated):
    """A = U diag(s) V^T with U, V orthogonal and s = softplus(raw) > 0 (HARoPE, eq. 6)."""

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

    def entries(self) -> Float[Tensor, "rotations entries"]:
        """Those of U, then those of V."""
        return torch.cat([self.skew_u, self.skew_v])

    def assemble(self, rotations: Float[Tensor, "rotations head_dim head_dim"]) -> MatrixPair:
        """U diag(s) V^T, and U diag(1/s) V^T for keys under inverse pairing."""
        u, v = rotations.chunk(2)
        scale = _scale(self.raw_scale)[:, None]
        with without_autocast(u):
            matrix = (u * scale) @ v.mT
            return matrix, (u / scale) @ v.mT if self.pairing == "inverse" else matrix

    def regularization(self) -> Float[Tensor, ""] | None:
        """Mean of log(s)^2."""
        return _scale(self.raw_scale).log().square().mean()


class Free(Basis):
    """A without constraint ("normal" in the paper's ablation)."""

    def __init__(self, num_matrices: int, head_dim: int, *, pairing: Pairing = "inverse") -> None:
        super().__init__()
        self.pairing = pairing
        self.matrix = nn.Parameter(torch.eye(head_dim).repeat(num_matrices, 1, 1))

    def forward(self, context: Tensor | None = None) -> MatrixPair | None:
        """A, and A^-T for keys under inverse pairing."""
        matrix = self.matrix.to(torch.promote_types(self.matrix.dtype, torch.float32))
        with without_autocast(matrix):
            return matrix, torch.linalg.inv(matrix).mT if self.pairing == "inverse" else matrix


class Fourier(Basis):
    """The fixed real Fourier basis in which all circulant matrices are rotations (STRING).

    Row 2f is the cosine and row 2f + 1 minus the sine of wave f, so that rotating pair f by
    2 Im FFT(c)_f is exp(C - C^T); the rows 0 and 1 are the constant and the alternating wave.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim

    def forward(self, context: Tensor | None = None) -> MatrixPair | None:
        """The same orthogonal matrix for queries and keys, shared by all heads."""
        place = torch.arange(self.head_dim)
        waves = torch.outer(place[: self.head_dim // 2], place) % self.head_dim
        phase = waves.double() * (2 * torch.pi / self.head_dim)
        rows = torch.stack([phase.cos(), -phase.sin()], dim=1) * (2 / self.head_dim) ** 0.5
        rows[0, 0] = self.head_dim**-0.5
        rows[0, 1] = self.head_dim**-0.5 * (1 - 2 * (place % 2))
        matrix = rows.flatten(0, 1)[None].float()
        return matrix, matrix


def _scale(raw: Float[Tensor, "matrices head_dim"]) -> Float[Tensor, "matrices head_dim"]:
    return F.softplus(raw.to(torch.promote_types(raw.dtype, torch.float32)))

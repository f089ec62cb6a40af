"""HARoPE whose matrices depend on the model's condition, which its authors name as open."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from harope.rope._fast.execution import without_autocast
from harope.rope._fast.precision import exact_matmul
from harope.rope.basis import (
    SOFTPLUS_ONE,
    Basis,
    MatrixPair,
    num_skew_entries,
    orthogonal_from_entries,
    positive_scale,
)
from harope.rope.config import EncodingConfig, OrthogonalMap, Pairing


class ConditionalSVD(Basis):
    """A(c) = U diag(s(c)) V^T, where `log s(c) = log softplus(raw) + W silu(c)`.

    `c` is the vector that the model is modulated by: the time of the diffusion and the class or the
    text. It is the same for all tokens of a sample, so queries and keys of a sample share one
    matrix per head and scores still depend on offsets alone. W starts at zero, so the encoding
    starts as HARoPE does, at the identity. As matrices differ per sample, they cannot be folded
    into projections.

    Args:
        num_matrices: One per head, or 1 for all heads.
        head_dim: Channels per head.
        condition_dim: Channels of c.
        pairing: Relation of A_k to A_q.
        orthogonal_map: Map from skew-symmetric generators to U and V.
    """

    name = "svd-conditional"
    options = ("per_head", "pairing", "orthogonal_map", "condition_dim")
    needs_condition = True

    def __init__(
        self,
        num_matrices: int,
        head_dim: int,
        condition_dim: int,
        *,
        pairing: Pairing = "inverse",
        orthogonal_map: OrthogonalMap = "exp",
    ) -> None:
        super().__init__()
        self.head_dim, self.condition_dim = head_dim, condition_dim
        self.pairing, self.orthogonal_map = pairing, orthogonal_map
        entries = num_skew_entries(head_dim)
        self.skew_u = nn.Parameter(torch.zeros(num_matrices, entries))
        self.skew_v = nn.Parameter(torch.zeros(num_matrices, entries))
        self.raw_scale = nn.Parameter(torch.full((num_matrices, head_dim), SOFTPLUS_ONE))
        # Not an nn.Linear, which models would initialise like their own.
        self.condition_weight = nn.Parameter(torch.zeros(num_matrices * head_dim, condition_dim))

    @classmethod
    def from_config(
        cls, config: EncodingConfig, *, num_heads: int, head_dim: int, num_axes: int
    ) -> "ConditionalSVD":
        if config.condition_dim is None:
            raise ValueError(
                "basis 'svd-conditional' needs condition_dim, the channels of the model's "
                "condition vector: use it in harope's DiT, which knows them, or pass condition_dim"
            )
        return cls(
            num_heads if config.per_head else 1,
            head_dim,
            config.condition_dim,
            pairing=config.pairing,
            orthogonal_map=config.orthogonal_map,
        )

    def forward(self, condition: Float[Tensor, "batch condition_dim"] | None = None) -> MatrixPair:
        if condition is None:
            raise ValueError(
                "basis 'svd-conditional' depends on the model's condition, and none was given: "
                "pass it to `matrices`, or use another basis where there is none"
            )
        if condition.ndim != 2 or condition.shape[-1] != self.condition_dim:
            raise ValueError(
                f"condition has the shape {tuple(condition.shape)}, but the basis is for (batch, "
                f"{self.condition_dim})"
            )
        entries = torch.cat([self.skew_u, self.skew_v])
        u, v = orthogonal_from_entries(entries, self.head_dim, self.orthogonal_map).chunk(2)
        with without_autocast(u):
            weight = self.condition_weight.to(u)
            (change,) = exact_matmul(F.silu(condition.to(u))[None], weight.mT[None])
            factor = change.unflatten(-1, (-1, self.head_dim)).exp()
            scale = (positive_scale(self.raw_scale) * factor)[..., None, :]
            matrix = _times(u * scale, v.mT)
            # (U diag(s) V^T)^-T = U diag(1/s) V^T
            return matrix, _times(u / scale, v.mT) if self.pairing == "inverse" else matrix

    def raw_scales(self) -> Float[Tensor, "matrices head_dim"]:
        return self.raw_scale


def _times(
    samples: Float[Tensor, "batch matrices head_dim head_dim"],
    matrices: Float[Tensor, "matrices head_dim head_dim"],
) -> Float[Tensor, "batch matrices head_dim head_dim"]:
    """Multiply the matrices of all samples by those that all samples share."""
    shared = matrices.expand_as(samples).flatten(0, 1)
    return exact_matmul(samples.flatten(0, 1), shared).unflatten(0, samples.shape[:2])

"""Self-attention with a positional encoding between projection and scores."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from harope.rope import PositionalEncoding, RotaryEncoding, RotationTable, apply_matrices
from harope.rope._fast.dispatch import normed_rotate_qk
from harope.rope._fast.folded_linear import cheaper_on_weights, folded_linear, is_bare
from harope.rope.basis import MatrixPair


class PositionInputs(NamedTuple):
    """Where the tokens are, with what a model computed from it for its layers.

    A layer asks its own encoding for what is None: parameters may be whole inside it alone (FSDP).
    """

    positions: Float[Tensor, "*batch tokens axes"]
    table: RotationTable | None = None
    matrices: MatrixPair | None = None


QK_NORM_EPS = 1e-6
"""Added to the mean square of a head's channels, as in FLUX and SD3.5."""


class Attention(nn.Module):
    """Multi-head self-attention; the encoding lives at `harope`.

    Args:
        width: channels of the tokens.
        encoding: the positional encoding of queries and keys.
        qk_norm: whether an RMS norm over the channels of each head, with learned weights, stands
            between the projection and the encoding, as in FLUX and SD3.5.
    """

    def __init__(self, width: int, encoding: PositionalEncoding, *, qk_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = encoding.num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(encoding.head_dim, eps=QK_NORM_EPS) if qk_norm else None
        self.k_norm = nn.RMSNorm(encoding.head_dim, eps=QK_NORM_EPS) if qk_norm else None
        self.harope = encoding
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch tokens width"], places: PositionInputs
    ) -> Float[Tensor, "batch tokens width"]:
        """Attention over all tokens at their places."""
        matrices = places.matrices or self.harope.matrices()
        table = places.table or self.harope.rotation_table(places.positions)
        if self.q_norm is not None and self.k_norm is not None:
            q, k, v = self._split(self.qkv(x))
            q, k = self._normed(q, k, self.q_norm, self.k_norm, table, matrices)
        else:
            q, k, v = self._project(x, matrices)
            q, k = self.harope.rotate(q, k, table)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))

    def _normed(
        self,
        q: Tensor,
        k: Tensor,
        q_norm: nn.RMSNorm,
        k_norm: nn.RMSNorm,
        table: RotationTable | None,
        matrices: MatrixPair | None,
    ) -> tuple[Tensor, Tensor]:
        """Queries and keys after norm, basis and rotation."""
        encoding, weights = self.harope.unwrapped, (q_norm.weight, k_norm.weight)
        layout = encoding.layout if isinstance(encoding, RotaryEncoding) else "interleaved"
        return normed_rotate_qk(
            q, k, table, matrices, weights=weights, eps=QK_NORM_EPS, layout=layout
        )

    def _project(self, x: Tensor, matrices: MatrixPair | None) -> tuple[Tensor, Tensor, Tensor]:
        """q and k in the basis of their heads, and v, each (batch, heads, tokens, head_dim)."""
        if matrices is not None and self._folds(x):
            linear = self.qkv
            return self._split(
                folded_linear(x, linear.weight, linear.bias, matrices, self.num_heads)
            )
        q, k, v = self._split(self.qkv(x))
        if matrices is not None:
            q, k = apply_matrices(q, matrices[0]), apply_matrices(k, matrices[1])
        return q, k, v

    def _folds(self, x: Tensor) -> bool:
        """Whether A meets the weights."""
        return cheaper_on_weights(x.shape[0] * x.shape[1], x.shape[2]) and self.is_bare

    @property
    def is_bare(self) -> bool:
        """Whether the projection is W x + b and nothing else, so that the basis folds into it."""
        return is_bare(self.qkv) and self.q_norm is None

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

"""HARoPE as it is written today: the form to beat."""

import torch
from jaxtyping import Num
from torch import Tensor, nn

from harope.rope import PositionalEncoding, RotationTable
from harope.rope import rotation_table as table_of
from harope.rope.encoding import Queries, QueriesKeys
from harope.rope.frequencies import Axial


class NaiveHARoPE(PositionalEncoding):
    """Two exponentials a layer in every forward, A on the tokens, a rotation by stacking."""

    def __init__(self, *, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.num_axes = num_heads, head_dim, 2
        self.frequencies = Axial(head_dim, 2)
        self.a_u = nn.Parameter(torch.zeros(num_heads, head_dim, head_dim))
        self.a_v = nn.Parameter(torch.zeros(num_heads, head_dim, head_dim))
        self.sigma = nn.Parameter(torch.full((num_heads, head_dim), 0.5413))

    def rotation_table(self, positions: Num[Tensor, "*batch tokens axes"]) -> RotationTable | None:
        """Shared by all layers, as ours is."""
        return table_of(self.frequencies(positions))

    def rotate(self, q: Queries, k: Queries, table: RotationTable | None) -> QueriesKeys:
        """A, then R, on every token."""
        assert table is not None
        u = torch.linalg.matrix_exp((self.a_u - self.a_u.mT) / 2)
        v = torch.linalg.matrix_exp((self.a_v - self.a_v.mT) / 2)
        matrix = u @ torch.diag_embed(nn.functional.softplus(self.sigma)) @ v.mT
        q = torch.einsum("hij,bhnj->bhni", matrix, q)
        k = torch.einsum("hij,bhnj->bhni", matrix, k)
        return _rotate(q, *table), _rotate(k, *table)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    wide = x.float()
    a, b = wide[..., ::2], wide[..., 1::2]
    turned = torch.stack([-b, a], dim=-1).flatten(-2)
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    return (wide * cos + turned * sin).to(x.dtype)

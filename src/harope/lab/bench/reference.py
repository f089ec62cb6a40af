"""Reference implementation of HARoPE without any optimisation, as the baseline of timings."""

import torch
from jaxtyping import Num
from torch import Tensor, nn

from harope.rope import AnyRotationTable, PositionalEncoding, RotationTable
from harope.rope import rotation_table as table_of
from harope.rope.encoding import Queries, QueriesKeys
from harope.rope.frequencies import Axial


class NaiveHARoPE(PositionalEncoding):
    """Naive HARoPE, written directly after the paper.

    Every forward pass computes two matrix exponentials per layer, applies A to every token, and
    rotates by stacking halves.

    Args:
        num_heads: Number of heads.
        head_dim: Channels per head.
    """

    def __init__(self, *, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.num_axes = num_heads, head_dim, 2
        self.frequencies = Axial(head_dim, 2)
        self.a_u = nn.Parameter(torch.zeros(num_heads, head_dim, head_dim))
        self.a_v = nn.Parameter(torch.zeros(num_heads, head_dim, head_dim))
        self.sigma = nn.Parameter(torch.full((num_heads, head_dim), 0.5413))

    def rotation_table(self, positions: Num[Tensor, "*batch tokens axes"]) -> RotationTable | None:
        # One table for all layers, as in the optimised encoding.
        return table_of(self.frequencies(positions))

    def rotate(self, q: Queries, k: Queries, table: AnyRotationTable | None) -> QueriesKeys:
        assert isinstance(table, RotationTable)
        u = torch.linalg.matrix_exp((self.a_u - self.a_u.mT) / 2)
        v = torch.linalg.matrix_exp((self.a_v - self.a_v.mT) / 2)
        matrix = u @ torch.diag_embed(nn.functional.softplus(self.sigma)) @ v.mT
        q = torch.einsum("hij,bhnj->bhni", matrix, q)
        k = torch.einsum("hij,bhnj->bhni", matrix, k)
        return _rotate(q, *table), _rotate(k, *table)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    x32 = x.float()
    a, b = x32[..., ::2], x32[..., 1::2]
    rotated_by_90 = torch.stack([-b, a], dim=-1).flatten(-2)
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    return (x32 * cos + rotated_by_90 * sin).to(x.dtype)

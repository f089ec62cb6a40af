"""Positional encodings behind one interface, whatever the method.

    q' = R(angles(p_q)) A_q q          k' = R(angles(p_k)) A_k k          (HARoPE)

A model asks an encoding for three things: what to add to its tokens once (`embed`), the table of
rotations for its positions (`rotation_table`, once for all layers where `shares_table`), and the
matrices of the basis (`matrices`), which it may fold into its projections. `forward` does the
rotary half in one call.
"""

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from harope.rope._fast.cache import DerivedCache
from harope.rope.absolute import AbsoluteEmbedding
from harope.rope.basis import Basis, MatrixPair
from harope.rope.fold import apply_matrices
from harope.rope.frequencies import Frequencies
from harope.rope.rotate import Layout, RotationTable, rotate_qk, rotation_table

Queries = Float[Tensor, "batch heads tokens head_dim"]
QueriesKeys = tuple[Queries, Queries]


class PositionalEncoding(nn.Module):
    """The interface that models rely on; as it stands, the encoding that does nothing."""

    num_heads: int
    head_dim: int
    num_axes: int

    @property
    def itself(self) -> "PositionalEncoding":
        """This encoding: read through a wrapper that hands on attributes, the one it wraps."""
        return self

    @property
    def shares_table(self) -> bool:
        """Whether every layer's table is the same, so that a model computes it once."""
        return True

    def embed(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"] | None:
        """What is added to the tokens once, before the first layer; None for nothing."""
        return None

    def rotation_table(
        self, positions: Num[Tensor, "*batch tokens axes"], context: Tensor | None = None
    ) -> RotationTable | None:
        """Cosines and sines for the positions, float32 or better; None where nothing rotates."""
        return None

    def matrices(self, context: Tensor | None = None) -> MatrixPair | None:
        """(A_q, A_k), each (heads or 1, head_dim, head_dim); None where they are the identity."""
        return None

    def rotate(self, q: Queries, k: Queries, table: RotationTable | None) -> QueriesKeys:
        """Rotate queries and keys that have met their matrices already."""
        return q, k

    def regularization(self) -> Float[Tensor, ""] | None:
        """Penalty on the basis; None where there is nothing to keep in bounds."""
        return None

    def forward(
        self, q: Queries, k: Queries, positions: Num[Tensor, "*batch tokens axes"]
    ) -> QueriesKeys:
        """Queries and keys with their positions in them, in their own dtype.

        Raises ValueError when q does not have the heads and channels of the encoding, or the
        tokens of the positions.
        """
        if (q.shape[-3], q.shape[-1]) != (self.num_heads, self.head_dim):
            raise ValueError(
                f"q has {q.shape[-3]} heads of {q.shape[-1]} channels but the encoding has "
                f"{self.num_heads} of {self.head_dim}: pass (batch, heads, tokens, head_dim)"
            )
        if q.shape[-2] != positions.shape[-2]:
            raise ValueError(
                f"q has {q.shape[-2]} tokens but there are {positions.shape[-2]} positions: "
                f"pass one position per token"
            )
        matrices = self.matrices()
        if matrices is not None:
            q, k = apply_matrices(q, matrices[0]), apply_matrices(k, matrices[1])
        return self.rotate(q, k, self.rotation_table(positions))


class RotaryEncoding(PositionalEncoding):
    """Frequencies x basis: every rotary method of the field.

    Without frequencies the rotation is left to the model around it.
    """

    def __init__(
        self,
        frequencies: Frequencies | None,
        basis: Basis,
        *,
        num_heads: int,
        head_dim: int,
        num_axes: int,
        layout: Layout = "interleaved",
    ) -> None:
        super().__init__()
        self.num_heads, self.layout = num_heads, layout
        self.head_dim, self.num_axes = head_dim, num_axes
        self.frequencies, self.basis = frequencies, basis
        self._kept_matrices, self._kept_table = DerivedCache(), DerivedCache()

    @property
    def shares_table(self) -> bool:
        """False where frequencies are learned, layer by layer."""
        return self.frequencies is None or not self.frequencies.learned

    def rotation_table(
        self, positions: Num[Tensor, "*batch tokens axes"], context: Tensor | None = None
    ) -> RotationTable | None:
        """Cosines and sines of the frequencies' angles; kept like `matrices`, for one tensor."""
        frequencies = self.frequencies
        if frequencies is None:
            return None

        def compute() -> RotationTable:
            return rotation_table(frequencies(positions, context))

        if self._is_fresh(context):
            return compute()
        sources = [positions, *frequencies.parameters()]
        return self._kept_table.get(sources, compute, (frequencies, frequencies.scaling))

    def matrices(self, context: Tensor | None = None) -> MatrixPair | None:
        """The basis, kept from call to call outside training while no gradient is asked for."""
        if self._is_fresh(context):
            return self.basis(context)
        return self._kept_matrices.get(self.basis.parameters(), self.basis, self.basis)

    def _is_fresh(self, context: Tensor | None) -> bool:
        """Whether values are computed at every call."""
        asked = context is not None or self.training or torch.is_grad_enabled()
        return asked or torch.compiler.is_compiling()

    def rotate(self, q: Queries, k: Queries, table: RotationTable | None) -> QueriesKeys:
        """R q and R k; as they are without a table."""
        return (q, k) if table is None else rotate_qk(q, k, table, self.layout)

    def regularization(self) -> Float[Tensor, ""] | None:
        """The basis' own."""
        return self.basis.regularization()


class Absolute(PositionalEncoding):
    """APE: an embedding of the position, added to the tokens once; queries and keys are left be."""

    def __init__(self, embedding: AbsoluteEmbedding, *, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.num_axes = num_heads, head_dim, embedding.num_axes
        self.embedding = embedding

    def embed(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"] | None:
        """The embedding, num_heads * head_dim wide, in float32 or better."""
        return self.embedding(positions)


class NoEncoding(PositionalEncoding):
    """No positions at all: tokens are a set."""

    def __init__(self, *, num_heads: int, head_dim: int, num_axes: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.num_axes = num_heads, head_dim, num_axes

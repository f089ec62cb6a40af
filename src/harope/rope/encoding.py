"""Positional encodings behind one interface, whatever the method.

    q' = R(angles(p_q)) A_q q          k' = R(angles(p_k)) A_k k          (HARoPE)

A model uses three parts of an encoding: the embedding to add to its tokens once (`embed`), the
rotation table of its positions (`rotation_table`, computed once for all layers if `shares_table`),
and the matrices of the basis (`matrices`), which it may fold into its projections. `forward`
applies basis and rotation in one call.
"""

from jaxtyping import Float, Num
from torch import Tensor

from harope.rope._fast.dispatch import rotate_qk
from harope.rope.absolute import AbsoluteEmbedding
from harope.rope.basis import Basis, MatrixPair
from harope.rope.cache import CachingModule
from harope.rope.fold import apply_matrices
from harope.rope.frequencies import Frequencies
from harope.rope.rotate import Layout, RotationTable, rotation_table

Queries = Float[Tensor, "batch heads tokens head_dim"]
QueriesKeys = tuple[Queries, Queries]


class PositionalEncoding(CachingModule):
    """Interface that models rely on; this base class itself encodes nothing."""

    num_heads: int
    head_dim: int
    num_axes: int

    @property
    def unwrapped(self) -> "PositionalEncoding":
        """The encoding itself, even when accessed through a wrapper that forwards attributes.

        PEFT's ModulesToSaveWrapper is one.
        """
        return self

    @property
    def shares_table(self) -> bool:
        """Whether all layers have the same rotation table, so that a model computes it once."""
        return True

    def embed(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"] | None:
        """Return the embedding to add to the tokens before the first layer; None for none."""
        return None

    def rotation_table(self, positions: Num[Tensor, "*batch tokens axes"]) -> RotationTable | None:
        """Return cosines and sines in float32 or float64; None without rotation.

        Inside a `cached` scope the table of a positions tensor is computed only once.
        """
        return None

    def matrices(self) -> MatrixPair | None:
        """Return (A_q, A_k), each (heads or 1, head_dim, head_dim); None for the identity.

        Inside a `cached` scope they are computed only once.
        """
        return None

    def rotate(self, q: Queries, k: Queries, table: RotationTable | None) -> QueriesKeys:
        """Rotate queries and keys to which the matrices have already been applied."""
        return q, k

    def regularization(self) -> Float[Tensor, ""] | None:
        """Return the penalty on the basis; None if it has none."""
        return None

    def forward(
        self, q: Queries, k: Queries, positions: Num[Tensor, "*batch tokens axes"]
    ) -> QueriesKeys:
        """Encode positions into queries and keys.

        Args:
            q: Queries.
            k: Keys.
            positions: One row per token, (tokens, axes) or (batch, tokens, axes); for images
                (y, x).

        Returns:
            Queries and keys in their own dtypes.

        Raises:
            ValueError: If q does not have the heads and channels of the encoding, or not one token
                per position.
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

    Args:
        frequencies: Positions to angles; None leaves the rotation to the surrounding model.
        basis: The matrices A_q and A_k.
        num_heads: Attention heads of the layer.
        head_dim: Channels per head.
        num_axes: Numbers per position.
        layout: Which channels form a pair, see `harope.rope.rotate.rotate`.
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

    @property
    def shares_table(self) -> bool:
        """False if frequencies are learned, because every layer learns its own."""
        return self.frequencies is None or not self.frequencies.learned

    def rotation_table(self, positions: Num[Tensor, "*batch tokens axes"]) -> RotationTable | None:
        frequencies = self.frequencies
        if frequencies is None:
            return None
        return self.reuse(
            "rotation_table",
            lambda: rotation_table(frequencies(positions)),
            sources=[frequencies, frequencies.scaling, *frequencies.parameters()],
            tensor=positions,
        )

    def matrices(self) -> MatrixPair | None:
        sources = [self.basis, *self.basis.parameters()]
        return self.reuse("matrices", self.basis, sources=sources)

    def rotate(self, q: Queries, k: Queries, table: RotationTable | None) -> QueriesKeys:
        return (q, k) if table is None else rotate_qk(q, k, table, self.layout)

    def regularization(self) -> Float[Tensor, ""] | None:
        return self.basis.regularization()


class Absolute(PositionalEncoding):
    """APE: an embedding of the position is added to the tokens once; nothing is rotated."""

    def __init__(self, embedding: AbsoluteEmbedding, *, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.num_axes = num_heads, head_dim, embedding.num_axes
        self.embedding = embedding

    def embed(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"] | None:
        """Return the embedding, num_heads * head_dim wide, in float32 or float64."""
        return self.embedding(positions)


class NoEncoding(PositionalEncoding):
    """No positions at all: attention treats the tokens as a set."""

    def __init__(self, *, num_heads: int, head_dim: int, num_axes: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.num_axes = num_heads, head_dim, num_axes

"""Positional encodings behind one interface, whatever the method.

    q' = R(angles(p_q)) A_q q          k' = R(angles(p_k)) A_k k          (HARoPE)

A model uses three parts of an encoding: the embedding to add to its tokens once (`embed`), the
rotation table of its positions (`rotation_table`, computed once for all layers if `shares_table`),
and the matrices of the basis (`matrices`), which it may fold into its projections. `forward`
applies basis and rotation in one call.

A sampling loop or an evaluation runs many forwards with the same weights; the matrices of a basis
and the cosines and sines of a grid are the same in all of them:

    with torch.no_grad(), cached(model):
        for batch in batches:
            model(batch)

Nothing is kept outside a scope, so that no value can outlive the weights it was computed from.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from harope._utils.argument_checks import check_module, check_tensor
from harope._utils.json_files import shorten
from harope.rope._fast.dispatch import rotate_qk
from harope.rope._fast.execution import is_plain, runs_real_tensors
from harope.rope.absolute import AbsoluteEmbedding
from harope.rope.basis import (
    Basis,
    GeneratorBasis,
    MatrixPair,
    apply_matrices,
    scale_penalty,
)
from harope.rope.conditional import ConditionalSVD
from harope.rope.frequencies import Frequencies
from harope.rope.position_maps import IndexPositions, PositionMap
from harope.rope.rotate import AnyRotationTable, Layout
from harope.rope.scaling import Scalable

Value = TypeVar("Value")
_POSITIONS = "pass (tokens, axes) or (batch, tokens, axes)"
Queries = Float[Tensor, "batch heads tokens head_dim"]
QueriesKeys = tuple[Queries, Queries]


class _Entry(NamedTuple):
    value: Any
    sources: tuple[Any, ...]
    """What the value was computed from, kept so that no new object can take their identity."""
    identities: tuple[Any, ...]


class ScopeCache:
    """Values of one encoding, for as long as a `cached` scope is open."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        # Entries are dropped with their tensor: a loop over new positions must not fill the memory.
        self._entries_by_tensor = WeakTensorKeyDictionary()

    def get(
        self,
        key: Hashable,
        compute: Callable[[], Value],
        sources: Iterable[Any],
        tensor: Tensor | None,
    ) -> Value:
        """Return the stored value, or compute and store it.

        Args:
            key: Name of the value.
            compute: Function without arguments that computes the value.
            sources: Objects that the value is computed from.
            tensor: Tensor that the value belongs to; None for none.
        """
        entries = self._entries
        if tensor is not None:
            entries = self._entries_by_tensor.setdefault(tensor, {})
        sources = tuple(sources)
        identities = tuple(map(_identity, sources))
        entry = entries.get(key)
        if entry is None or entry.identities != identities:
            entry = entries[key] = _Entry(compute(), sources, identities)
        return entry.value


class CachingModule(nn.Module):
    """Module whose values can be reused inside a `cached` scope."""

    _scope_cache: ScopeCache | None = None

    @property
    def in_scope(self) -> bool:
        """Whether a `cached` scope is open for this module."""
        return self._scope_cache is not None

    def reuse(
        self,
        key: Hashable,
        compute: Callable[[], Value],
        *,
        sources: Iterable[Any] = (),
        tensor: Tensor | None = None,
    ) -> Value:
        """Return `compute()`, computed only once while a `cached` scope is open.

        Args:
            key: Name of the value.
            compute: Function without arguments that computes the value.
            sources: Tensors and other objects that the value is computed from. The value is
                computed again when one of them has been replaced.
            tensor: The tensor that the value belongs to; there is one value per key and tensor,
                which is dropped together with the tensor.
        """
        # Modes come first: compilers must not guard on whether a scope is open.
        if not runs_real_tensors() or torch.is_grad_enabled() or self.training:
            return compute()
        if self._scope_cache is None:
            return compute()
        return self._scope_cache.get(key, compute, sources, tensor)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_scope_cache"}


def _identity(source: Any) -> tuple[Any, ...]:
    if isinstance(source, Tensor):
        return id(source), source.device, source.dtype
    return (id(source),)


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
        """Return the embedding to add to the tokens before the first layer; None for none.

        Args:
            positions: One row per token, (tokens, axes) or (batch, tokens, axes).
        """
        return None

    def rotation_table(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> AnyRotationTable | None:
        """Return cosines and sines in float32 or float64; None without rotation.

        Inside a `cached` scope the table of a positions tensor is computed only once.

        Args:
            positions: One row per token, (tokens, axes) or (batch, tokens, axes).
        """
        return None

    @property
    def needs_condition(self) -> bool:
        """Whether the matrices depend on the condition vector of a sample."""
        return False

    def matrices(
        self, condition: Float[Tensor, "batch condition_dim"] | None = None
    ) -> MatrixPair | None:
        """Return (A_q, A_k), each (heads or 1, head_dim, head_dim); None for the identity.

        Inside a `cached` scope they are computed only once, unless they depend on the condition.

        Args:
            condition: Vector that the model is modulated by, such as the embedding of time and
                class. The matrices of encodings that need it have an axis for the batch before the
                others.

        Raises:
            ValueError: If the encoding needs a condition and none is given.
        """
        return None

    def reference_matrices(self) -> MatrixPair | None:
        """Return the matrices, at a condition of zero for encodings that need one."""
        return self.matrices()

    def rotate(self, q: Queries, k: Queries, table: AnyRotationTable | None) -> QueriesKeys:
        """Rotate queries and keys to which the matrices have already been applied.

        Args:
            q: Queries.
            k: Keys.
            table: Cosines and sines of their positions; None for no rotation.
        """
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
            ValueError: If q or k does not have the heads and channels of the encoding, or not one
                token per position.
        """
        for name, value in (("q", q), ("k", k)):
            check_tensor(name, value, 4)
        check_tensor("positions", positions)
        if (q.shape[-3], q.shape[-1]) != (self.num_heads, self.head_dim):
            raise ValueError(
                f"q has {q.shape[-3]} heads of {q.shape[-1]} channels but the encoding has "
                f"{self.num_heads} of {self.head_dim}: pass (batch, heads, tokens, head_dim)"
            )
        if k.shape[-1] != self.head_dim:
            raise ValueError(f"k has {k.shape[-1]} channels but q has {self.head_dim}")
        if positions.ndim < 2:
            raise ValueError(f"positions have the shape {tuple(positions.shape)}: {_POSITIONS}")
        for name, value in (("q", q), ("k", k)):
            if value.shape[-2] != positions.shape[-2]:
                raise ValueError(
                    f"{name} has {value.shape[-2]} tokens but there are {positions.shape[-2]} "
                    f"positions: pass one position per token"
                )
        matrices = self.matrices()
        if matrices is not None:
            q, k = apply_matrices(q, matrices[0]), apply_matrices(k, matrices[1])
        return self.rotate(q, k, self.rotation_table(positions))


class RotaryEncoding(PositionalEncoding):
    """Positions x frequencies x basis: every rotary method of the field.

    Args:
        frequencies: Coordinates to angles; None leaves the rotation to the surrounding model.
        basis: The matrices A_q and A_k.
        num_heads: Attention heads of the layer.
        head_dim: Channels per head.
        num_axes: Numbers per position.
        positions: Positions to coordinates; None for positions as they are.
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
        positions: PositionMap | None = None,
        layout: Layout = "interleaved",
    ) -> None:
        super().__init__()
        self.num_heads, self.layout = num_heads, layout
        self.head_dim, self.num_axes = head_dim, num_axes
        self.positions = positions or IndexPositions(num_axes)
        self.frequencies, self.basis = frequencies, basis

    @property
    def shares_table(self) -> bool:
        """False if frequencies are learned, because every layer learns its own."""
        return self.frequencies is None or not self.frequencies.learned

    def rotation_table(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> AnyRotationTable | None:
        frequencies = self.frequencies
        if frequencies is None:
            return None
        parts = [part for part in self.modules() if isinstance(part, Scalable)]
        return self.reuse(
            "rotation_table",
            lambda: self._table(frequencies, positions),
            sources=[
                *(self.positions, frequencies, *frequencies.parameters()),
                *(part.scaling for part in parts),
            ],
            tensor=positions,
        )

    def angles(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*shape tokens pairs"]:
        """Compute the angles of all pairs in radians.

        Args:
            positions: One row per token, (tokens, axes) or (batch, tokens, axes).

        Raises:
            ValueError: If the encoding leaves the rotation to the surrounding model.
        """
        if self.frequencies is None:
            raise ValueError("the encoding has no frequencies: the surrounding model rotates")
        angles: Tensor = self.frequencies(self.positions(positions))
        return angles

    def _table(
        self, frequencies: Frequencies, positions: Num[Tensor, "*batch tokens axes"]
    ) -> AnyRotationTable:
        table = frequencies.table(self.positions(positions))
        factor = frequencies.scaling.attention_factor if frequencies.scaling else 1.0
        return table if factor == 1 else type(table)(*(factor * part for part in table))

    @property
    def needs_condition(self) -> bool:
        return self.basis.needs_condition

    def matrices(
        self, condition: Float[Tensor, "batch condition_dim"] | None = None
    ) -> MatrixPair | None:
        if self.basis.needs_condition:
            pair: MatrixPair | None = self.basis(condition)
            return pair
        sources = [self.basis, *self.basis.parameters()]
        return self.reuse("matrices", self.basis, sources=sources)

    def reference_matrices(self) -> MatrixPair | None:
        if not isinstance(self.basis, ConditionalSVD):
            return self.matrices()
        weight = self.basis.condition_weight
        pair = self.matrices(weight.new_zeros(1, self.basis.condition_dim))
        return None if pair is None else (pair[0][0], pair[1][0])

    def rotate(self, q: Queries, k: Queries, table: AnyRotationTable | None) -> QueriesKeys:
        return (q, k) if table is None else rotate_qk(q, k, table, self.layout)

    def regularization(self) -> Float[Tensor, ""] | None:
        return self.basis.regularization()


class Absolute(PositionalEncoding):
    """APE: an embedding of the position is added to the tokens once; nothing is rotated.

    Args:
        embedding: Positions to vectors, num_heads * head_dim wide.
        num_heads: Attention heads of the layers.
        head_dim: Channels per head.
    """

    def __init__(self, embedding: AbsoluteEmbedding, *, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.num_axes = num_heads, head_dim, embedding.num_axes
        self.embedding = embedding

    def embed(
        self, positions: Num[Tensor, "*batch tokens axes"]
    ) -> Float[Tensor, "*batch tokens width"] | None:
        """Return the embedding, num_heads * head_dim wide, in float32 or float64.

        Args:
            positions: One row per token, (tokens, axes) or (batch, tokens, axes).
        """
        return self.embedding(positions)


class NoEncoding(PositionalEncoding):
    """No positions at all: attention treats the tokens as a set.

    Args:
        num_heads: Attention heads of the layer.
        head_dim: Channels per head.
        num_axes: Numbers per position.
    """

    def __init__(self, *, num_heads: int, head_dim: int, num_axes: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.num_axes = num_heads, head_dim, num_axes


def batched_matrices(encodings: Sequence[PositionalEncoding]) -> list[MatrixPair | None]:
    """Compute `matrices()` of every encoding, with one exponential or Cayley solve per kind.

    Args:
        encodings: Those of all layers.

    Returns:
        One entry per encoding. It is None if the layer must call `matrices()` itself: if the
        encoding has no generators, if its parameters are sharded, so that they are complete only
        inside the layer's own forward (FSDP), and for all encodings if gradients are disabled.
    """
    if not isinstance(encodings, list | tuple):
        raise ValueError(f"encodings must be a list of encodings, got {shorten(encodings)}")
    result: list[MatrixPair | None] = [None] * len(encodings)
    for indices, stacked in _matrices_by_kind(encodings):
        parts = (part.chunk(len(indices)) for part in stacked)
        for index, *pair in zip(indices, *parts, strict=True):
            result[index] = (pair[0], pair[1])
    return result


def stacked_matrices(encodings: Sequence[PositionalEncoding]) -> MatrixPair | None:
    """Compute the matrices of all layers as one tensor for queries and one for keys.

    Args:
        encodings: Those of all layers.

    Returns:
        (A_q, A_k), each (layers * matrices, head_dim, head_dim), layer after layer. None unless
        `batched_matrices` computes those of all layers, and by one exponential.
    """
    groups = _matrices_by_kind(encodings)
    first = next(groups, None)
    return first[1] if first is not None and len(first[0]) == len(encodings) else None


def _matrices_by_kind(
    encodings: Sequence[PositionalEncoding],
) -> Iterator[tuple[list[int], MatrixPair]]:
    """Yield the indices of encodings that are computed as one, and their concatenated matrices."""
    if not torch.is_grad_enabled():
        # Layers compute the same bits with and without a `cached` scope this way.
        return
    groups = defaultdict(list)
    for index, encoding in enumerate(encodings):
        basis = encoding.basis if isinstance(encoding, RotaryEncoding) else None
        if isinstance(basis, GeneratorBasis) and all(map(_is_unsharded, basis.parameters())):
            tensors = basis.tensors()
            key = (basis.kind, tensors[0].shape, tensors[0].dtype, tensors[0].device)
            groups[key].append((index, basis, tensors))
    for members in groups.values():
        indices, bases, tensors_of_each = zip(*members, strict=True)
        stacked = map(torch.cat, zip(*tensors_of_each, strict=True))
        yield list(indices), bases[0].assemble(*stacked)


def batched_regularization(
    encodings: Iterable[PositionalEncoding],
) -> Float[Tensor, ""] | None:
    """Sum the penalties of encodings, computing those of equal shapes as one.

    Args:
        encodings: Those of all layers.

    Returns:
        The sum of `regularization()` over the encodings; None if none has a penalty.
    """
    groups, terms = defaultdict(list), []
    for encoding in encodings:
        raw = encoding.basis.raw_scales() if isinstance(encoding, RotaryEncoding) else None
        if raw is not None and _is_unsharded(raw):
            groups[raw.shape, raw.dtype, raw.device].append(raw)
        elif (penalty := encoding.regularization()) is not None:
            terms.append(penalty)
    # The mean over layers of equal shapes, times their number.
    terms += [len(raws) * scale_penalty(torch.stack(raws)) for raws in groups.values()]
    return sum(terms[1:], terms[0]) if terms else None


def _is_unsharded(parameter: Tensor) -> bool:
    """Return whether it is neither a DTensor (FSDP2) nor a piece of a flat parameter (FSDP1)."""
    return is_plain(parameter) and parameter.ndim == 2


@contextmanager
def cached(module: nn.Module) -> Iterator[None]:
    """Let every encoding inside `module` compute its matrices and rotation tables only once.

    The caller promises that weights and positions are not written in place while the scope is
    open. Parameters, bases, frequencies and scalings that are *replaced* (`functional_call`,
    assignment, offloading, `set_scaling`, `.to()`) are noticed.

    The scope has no effect on calls with gradients enabled, on modules in training mode, and under
    `torch.compile`, exporters, function transforms (`torch.vmap`) and fake tensors: these compute
    their own values every time and store nothing.

    Scopes may be nested: values are dropped when the outermost scope of an encoding closes, after
    exceptions too. Copies, pickles and state dicts made inside a scope do not contain the values.

    Args:
        module: A model, a layer or a single encoding.
    """
    check_module("module", module)
    opened = [
        part for part in module.modules() if isinstance(part, CachingModule) and not part.in_scope
    ]
    for part in opened:
        part._scope_cache = ScopeCache()
    try:
        yield
    finally:
        for part in opened:
            del part._scope_cache

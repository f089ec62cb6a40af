"""What the kernels share: their decorator, tables with four axes, loads and stores of blocks.

A block is a number of tokens of one head. Loads and stores skip tokens and channels past the end.

The steps of samples, heads and tokens are passed to kernels as multiples of a power of two that
divides all of them (`alignment`). Triton notices only steps that are multiples of 16, and would
access the rows of other sizes of heads, such as 72, in narrow pieces.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, no_type_check

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

Queries = Float[Tensor, "batch heads tokens head_dim"]
Keys = Float[Tensor, "batch key_heads tokens head_dim"]
Table = Float[Tensor, "*shape tokens pairs"]


def kernel(function: Callable[..., Any], *, unspecialised: tuple[str, ...] = ()) -> Any:
    """Apply `triton.jit` to the undecorated function, which type-checking import hooks may wrap.

    Args:
        function: Source of the kernel.
        unspecialised: Arguments whose values 1 and multiples of 16 need no kernels of their own.
    """
    return triton.jit(inspect.unwrap(function), do_not_specialize=unspecialised)


def with_four_axes(
    table: Table, q: Queries, k: Keys
) -> Float[Tensor, "#batch #heads tokens pairs"]:
    """Return cosines or sines with axes for samples and heads, of size one if they are shared.

    Args:
        table: Cosines or sines.
        q: Queries that are rotated by them.
        k: Keys, likewise.

    Raises:
        ValueError: If q and k have different numbers of heads but heads have tables of their own.
    """
    table = table[(None,) * (4 - table.ndim)]
    if table.shape[1] > 1 and k.shape[1] not in (0, q.shape[1]):
        raise ValueError(
            f"q has {q.shape[1]} heads and k {k.shape[1]} but the table has {table.shape[1]}: "
            f"share it among the heads, or give q and k as many"
        )
    return table


def broadcast_table(table: Tensor, q: Tensor) -> Tensor:
    """Return a view with the batch and heads of q; axes of size one get the stride 0.

    Args:
        table: Cosines or sines with four axes.
        q: Queries.
    """
    return table.expand(q.shape[0], q.shape[1] if table.shape[1] > 1 else 2, -1, -1)


def alignment(*tensors: Tensor) -> int:
    """Return the largest power of two, at most 16, that divides all strides but the last.

    Args:
        *tensors: Tensors that are passed to a kernel. Strides of axes of size one do not count.
    """
    return math.gcd(16, *(step for tensor in tensors for step in _outer_strides(tensor)))


def aligned_strides(align: int, *tensors: Tensor) -> Iterator[int]:
    """Yield the strides of tensors, all but the last ones in units of `align`.

    Args:
        align: Their `alignment`.
        *tensors: Tensors that are passed to a kernel.
    """
    for tensor in tensors:
        yield from (step // align for step in _outer_strides(tensor))
        yield tensor.stride(-1)


def row_strides(align: int, *tensors: Tensor) -> Iterator[int]:
    """Yield the strides of samples, heads and tokens of tensors with adjacent channels.

    Args:
        align: Their `alignment`, the unit of the strides.
        *tensors: Tensors with four axes.
    """
    for tensor in tensors:
        yield from (step // align for step in _outer_strides(tensor))


def with_adjacent_channels(x: Tensor) -> Tensor:
    """Return a tensor itself if its last axis is dense, otherwise a contiguous copy.

    Args:
        x: Queries, keys or their gradients.
    """
    return x if x.stride(-1) == 1 else x.contiguous()


def with_dense_matrices(
    matrices: Float[Tensor, "heads head_dim head_dim"],
) -> Float[Tensor, "heads head_dim head_dim"]:
    """Return matrices whose rows follow each other, with any stride from head to head.

    Args:
        matrices: One per head; those of shared matrices are views of one.
    """
    is_dense = matrices.stride()[1:] == (matrices.shape[-1], 1)
    return matrices if is_dense else matrices.contiguous()


def _outer_strides(tensor: Tensor) -> Iterator[int]:
    sizes = zip(tensor.shape[:-1], tensor.stride(), strict=False)
    return (step if size > 1 else 0 for size, step in sizes)


@kernel
@no_type_check
def sample_and_start(tokens, TOKENS: tl.constexpr):
    """Return the sample and the first token of a program; its first index counts blocks of samples.

    Both are 64 bits wide: a batch of long sequences has more than 2^31 values.
    """
    blocks = (tokens + TOKENS - 1) // TOKENS
    program = tl.program_id(0)
    return (program // blocks).to(tl.int64), (program % blocks).to(tl.int64) * TOKENS


@kernel
@no_type_check
def load_block(
    x, channels, valid, n, tokens, stride_n, stride_d, ALIGN: tl.constexpr, WIDE: tl.constexpr
):
    """Load channels of tokens n, zero where `valid` is false and past the last token."""
    inside = (n < tokens)[:, None] & valid[None, :]
    at = x + (n * stride_n * ALIGN)[:, None] + (channels * stride_d)[None, :]
    return tl.load(at, mask=inside, other=0).to(WIDE)


@kernel
@no_type_check
def store_block(x, value, channels, valid, n, tokens, stride_n, stride_d, ALIGN: tl.constexpr):
    """Store channels of tokens n in the dtype of x."""
    inside = (n < tokens)[:, None] & valid[None, :]
    at = x + (n * stride_n * ALIGN)[:, None] + (channels * stride_d)[None, :]
    tl.store(at, value.to(x.dtype.element_ty), mask=inside)


@kernel
@no_type_check
def load_pairs(
    x, n, tokens, stride_n, stride_d,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr,
    INTERLEAVED: tl.constexpr, WIDE: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Load the first and the second channels of all pairs, (TOKENS, PADDED) each."""
    if INTERLEAVED:
        d = tl.arange(0, 2 * PADDED)
        both = load_block(x, d, d < 2 * PAIRS, n, tokens, stride_n, stride_d, ALIGN, WIDE)
        a, b = tl.split(tl.reshape(both, (TOKENS, PADDED, 2)))
    else:
        p = tl.arange(0, PADDED)
        a = load_block(x, p, p < PAIRS, n, tokens, stride_n, stride_d, ALIGN, WIDE)
        b = load_block(
            x + PAIRS * stride_d, p, p < PAIRS, n, tokens, stride_n, stride_d, ALIGN, WIDE
        )
    return a, b


@kernel
@no_type_check
def store_pairs(
    x, a, b, n, tokens, stride_n, stride_d,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr, INTERLEAVED: tl.constexpr,
    ALIGN: tl.constexpr,
):  # fmt: skip
    """Store the first and the second channels of all pairs, (TOKENS, PADDED) each."""
    if INTERLEAVED:
        d = tl.arange(0, 2 * PADDED)
        both = tl.reshape(tl.join(a, b), (TOKENS, 2 * PADDED))
        store_block(x, both, d, d < 2 * PAIRS, n, tokens, stride_n, stride_d, ALIGN)
    else:
        p = tl.arange(0, PADDED)
        store_block(x, a, p, p < PAIRS, n, tokens, stride_n, stride_d, ALIGN)
        store_block(x + PAIRS * stride_d, b, p, p < PAIRS, n, tokens, stride_n, stride_d, ALIGN)


@kernel
@no_type_check
def load_table(
    cos, sin, n, tokens, c_n, c_p, s_n, s_p,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Load cosines and sines of tokens n, (TOKENS, PADDED) each."""
    p = tl.arange(0, PADDED)
    c = load_block(cos, p, p < PAIRS, n, tokens, c_n, c_p, ALIGN, WIDE)
    s = load_block(sin, p, p < PAIRS, n, tokens, s_n, s_p, ALIGN, WIDE)
    return c, s

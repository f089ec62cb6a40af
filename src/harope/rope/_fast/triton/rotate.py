"""Rotation of queries and keys in one launch, and the gradient of its table (Triton).

The kernel is bound by memory: every value is read once and written once, and a program reuses its
cosines and sines for several heads if all heads share them.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from harope.rope._fast.triton.common import (
    Keys,
    Queries,
    Table,
    aligned_strides,
    alignment,
    broadcast_table,
    kernel,
    load_pairs,
    load_table,
    sample_and_start,
    store_pairs,
    with_four_axes,
)
from harope.rope._fast.triton.fallback import FALLBACK
from harope.rope.rotate import layout_of, rotate, table_gradient

# Values that a program holds at once, and heads that it loops over if they share a table.
TILE, SHARED_HEADS = 4096, 4
# Largest number of partial sums of the gradient of a table that all samples share.
MOST_SPLITS = 16


def rotate_qk(
    q: Queries, k: Keys, cos: Table, sin: Table, *, interleaved: bool
) -> tuple[Queries, Keys]:
    """Compute `harope.rope.rotate.rotate` of queries and keys in one launch.

    Args:
        q: Queries, with any strides.
        k: Keys, likewise.
        cos: Cosines of the angles.
        sin: Sines of the angles.
        interleaved: The layout; False is "half".

    Returns:
        Contiguous queries and keys, differentiable in all four tensors.

    Raises:
        ValueError: If q and k have different numbers of heads but heads have tables of their own.
    """
    cos, sin = with_four_axes(cos, q, k), with_four_axes(sin, q, k)
    return rotate_op(q, k, cos, sin, interleaved, False)


def rotate_one(
    x: Queries, cos: Table, sin: Table, *, interleaved: bool
) -> Float[Tensor, "batch heads tokens head_dim"]:
    """Compute `harope.rope.rotate.rotate` of queries or keys alone.

    Args:
        x: Queries or keys, with any strides.
        cos: Cosines of the angles.
        sin: Sines of the angles.
        interleaved: The layout; False is "half".

    Returns:
        A contiguous tensor, differentiable in all three.
    """
    return rotate_qk(x, x[:, :0], cos, sin, interleaved=interleaved)[0]


@torch.library.custom_op("harope::rotate_qk", mutates_args=())
def rotate_op(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Rotate by the angles, or by their negatives if `inverse`.

    q and k have any strides, and may have different numbers of heads if all heads share the table.
    The table has four axes and any strides.
    """

    def formula() -> tuple[Tensor, Tensor]:
        signed, layout = -sin if inverse else sin, layout_of(interleaved)
        return rotate(q, cos, signed, layout), rotate(k, cos, signed, layout)

    return FALLBACK.run(
        "rotate_qk", q, lambda: launch_rotation(q, k, cos, sin, interleaved, inverse), formula
    )


def launch_rotation(
    q: Queries, k: Keys, cos: Table, sin: Table, interleaved: bool, inverse: bool
) -> tuple[Queries, Keys]:
    """Launch the kernel of the rotation.

    Args:
        q: Queries, with any strides.
        k: Keys, likewise.
        cos: Cosines with four axes.
        sin: Sines with four axes.
        interleaved: The layout; False is "half".
        inverse: Whether to rotate by the negative angles.

    Returns:
        Contiguous queries and keys.
    """
    cos, sin = broadcast_table(cos, q), broadcast_table(sin, q)
    out_q = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    out_k = torch.empty(k.shape, dtype=k.dtype, device=k.device)
    batch, _, tokens, head_dim = q.shape
    heads = q.shape[1] + k.shape[1]
    if batch * tokens == 0:
        return out_q, out_k
    block, pairs_padded = _tile(tokens, head_dim)
    walked = SHARED_HEADS if cos.stride(1) == 0 else 1
    # The second axis of a grid is limited to 65,535, so the batch is part of the first.
    grid = (triton.cdiv(tokens, block) * batch, triton.cdiv(heads, walked))
    align, table_align = alignment(q, k, out_q, out_k), alignment(cos, sin)
    _rotation[grid](
        q, k, out_q, out_k, cos, sin,
        q.shape[1], heads, tokens,
        *aligned_strides(align, q, k, out_q, out_k), *aligned_strides(table_align, cos, sin),
        PAIRS=head_dim // 2, PADDED=pairs_padded, TOKENS=block, WALKED=walked,
        INTERLEAVED=interleaved, INVERSE=inverse, WIDE=_wide(q, cos),
        ALIGN=align, TABLE_ALIGN=table_align,
    )  # fmt: skip
    return out_q, out_k


@rotate_op.register_fake
def _(q: Tensor, k: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


@torch.library.custom_op("harope::rotate_qk_table", mutates_args=())
def _table_op(
    q: Tensor, k: Tensor, grad_q: Tensor, grad_k: Tensor, cos: Tensor, interleaved: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of cosines and sines, (table batch, table heads, tokens, pairs).

    `cos` is four-dimensional; a first or second size of one is shared by all samples or heads.
    """

    def formula() -> tuple[Tensor, Tensor]:
        layout = layout_of(interleaved)
        of_q, of_k = table_gradient(q, grad_q, cos, layout), table_gradient(k, grad_k, cos, layout)
        return of_q[0] + of_k[0], of_q[1] + of_k[1]

    return FALLBACK.run(
        "rotate_qk_table",
        q,
        lambda: launch_table_gradient(q, k, grad_q, grad_k, cos, interleaved),
        formula,
    )


def launch_table_gradient(
    q: Queries, k: Keys, grad_q: Queries, grad_k: Keys, cos: Table, interleaved: bool
) -> tuple[Table, Table]:
    """Launch the kernel of the table's gradient.

    Args:
        q: Queries, with any strides.
        k: Keys, likewise.
        grad_q: Gradients of the rotated queries, likewise.
        grad_k: Gradients of the rotated keys, likewise.
        cos: Cosines with four axes.
        interleaved: The layout; False is "half".

    Returns:
        Gradients of cosines and sines, in the dtype of the cosines.
    """
    batch, heads, tokens, head_dim = q.shape
    table_batch, table_heads = cos.shape[:2]
    if batch * tokens == 0:
        return torch.zeros_like(cos), torch.zeros_like(cos)
    splits = min(batch, MOST_SPLITS) if table_batch == 1 else 1
    shape = (splits, table_batch, table_heads, tokens, head_dim // 2)
    dtype = torch.promote_types(torch.promote_types(q.dtype, cos.dtype), torch.float32)
    grad_cos, grad_sin = torch.empty((2, *shape), dtype=dtype, device=q.device)
    block, pairs_padded = _tile(tokens, head_dim)
    grid = (triton.cdiv(tokens, block) * splits * table_batch, table_heads)
    align = alignment(q, k, grad_q, grad_k)
    _table_gradient[grid](
        q, k, grad_q, grad_k, grad_cos, grad_sin,
        batch, heads, k.shape[1], tokens, splits,
        *aligned_strides(align, q, k, grad_q, grad_k),
        PER_SAMPLE=table_batch > 1, PER_HEAD=table_heads > 1,
        PAIRS=head_dim // 2, PADDED=pairs_padded, TOKENS=block,
        INTERLEAVED=interleaved, WIDE=_wide(q, cos), ALIGN=align,
    )  # fmt: skip
    return grad_cos.sum(0).to(cos.dtype), grad_sin.sum(0).to(cos.dtype)


@_table_op.register_fake
def _(
    q: Tensor, k: Tensor, grad_q: Tensor, grad_k: Tensor, cos: Tensor, interleaved: bool
) -> tuple[Tensor, Tensor]:
    return cos.new_empty(cos.shape), cos.new_empty(cos.shape)


def _save_rotation(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    q, k, cos, sin, ctx.interleaved, ctx.inverse = inputs
    # Only the gradient of a learned table depends on queries and keys.
    ctx.learned = ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
    ctx.save_for_backward(cos, sin, *((q, k) if ctx.learned else ()))


def _rotation_backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Tensor | None, ...]:
    cos, sin, *qk = ctx.saved_tensors
    dq, dk = rotate_op(grad_q, grad_k, cos, sin, ctx.interleaved, not ctx.inverse)
    if not ctx.learned:
        return dq, dk, None, None, None, None
    dcos, dsin = _table_op(*qk, grad_q, grad_k, cos, ctx.interleaved)
    return dq, dk, dcos, -dsin if ctx.inverse else dsin, None, None


rotate_op.register_autograd(_rotation_backward, setup_context=_save_rotation)


def _tile(tokens: int, head_dim: int) -> tuple[int, int]:
    """Return the tokens per block, and the pairs rounded up to a power of two."""
    padded = triton.next_power_of_2(head_dim // 2)
    return min(triton.next_power_of_2(tokens), max(1, TILE // (2 * padded))), padded


def _wide(q: Tensor, cos: Tensor) -> tl.dtype:
    return tl.float64 if torch.float64 in (q.dtype, cos.dtype) else tl.float32


@kernel
@no_type_check
def _rotation(
    q, k, out_q, out_k, cos, sin,
    heads_q, heads, tokens,
    q_b, q_h, q_n, q_d,
    k_b, k_h, k_n, k_d,
    oq_b, oq_h, oq_n, oq_d,
    ok_b, ok_h, ok_n, ok_d,
    c_b, c_h, c_n, c_p,
    s_b, s_h, s_n, s_p,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr, WALKED: tl.constexpr,
    INTERLEAVED: tl.constexpr, INVERSE: tl.constexpr, WIDE: tl.constexpr,
    ALIGN: tl.constexpr, TABLE_ALIGN: tl.constexpr,
):  # fmt: skip
    batch, start = sample_and_start(tokens, TOKENS)
    n = start + tl.arange(0, TOKENS)
    first = tl.program_id(1).to(tl.int64) * WALKED
    # Without sharing, WALKED is 1 and `first` the only head; heads of keys follow those of queries.
    own = first if first < heads_q else first - heads_q
    c, s = load_table(
        cos + (batch * c_b + own * c_h) * TABLE_ALIGN,
        sin + (batch * s_b + own * s_h) * TABLE_ALIGN,
        n, tokens, c_n, c_p, s_n, s_p, PAIRS, PADDED, TABLE_ALIGN, WIDE,
    )  # fmt: skip
    if INVERSE:
        s = -s
    for step in range(WALKED):
        head = first + step
        if head < heads_q:
            _rotate_tile(
                q + (batch * q_b + head * q_h) * ALIGN,
                out_q + (batch * oq_b + head * oq_h) * ALIGN, c, s,
                n, tokens, q_n, q_d, oq_n, oq_d, PAIRS, PADDED, TOKENS, INTERLEAVED, WIDE, ALIGN,
            )  # fmt: skip
        elif head < heads:
            head_k = head - heads_q
            _rotate_tile(
                k + (batch * k_b + head_k * k_h) * ALIGN,
                out_k + (batch * ok_b + head_k * ok_h) * ALIGN, c, s,
                n, tokens, k_n, k_d, ok_n, ok_d, PAIRS, PADDED, TOKENS, INTERLEAVED, WIDE, ALIGN,
            )  # fmt: skip


@kernel
@no_type_check
def _rotate_tile(
    x, out, c, s, n, tokens, x_n, x_d, out_n, out_d,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr,
    INTERLEAVED: tl.constexpr, WIDE: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    a, b = load_pairs(x, n, tokens, x_n, x_d, PAIRS, PADDED, TOKENS, INTERLEAVED, WIDE, ALIGN)
    rotated_a = a * c - b * s
    rotated_b = a * s + b * c
    store_pairs(
        out, rotated_a, rotated_b, n, tokens, out_n, out_d,
        PAIRS, PADDED, TOKENS, INTERLEAVED, ALIGN,
    )  # fmt: skip


@kernel
@no_type_check
def _pair_products(
    x, grad, n, tokens, x_n, x_d, g_n, g_d,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr,
    INTERLEAVED: tl.constexpr, WIDE: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Return what the tokens of one head add to the gradients of cosines and sines."""
    a, b = load_pairs(x, n, tokens, x_n, x_d, PAIRS, PADDED, TOKENS, INTERLEAVED, WIDE, ALIGN)
    ga, gb = load_pairs(grad, n, tokens, g_n, g_d, PAIRS, PADDED, TOKENS, INTERLEAVED, WIDE, ALIGN)
    return ga * a + gb * b, gb * a - ga * b


@kernel
@no_type_check
def _table_gradient(
    q, k, grad_q, grad_k, grad_cos, grad_sin,
    batch, heads_q, heads_k, tokens, splits,
    q_b, q_h, q_n, q_d,
    k_b, k_h, k_n, k_d,
    gq_b, gq_h, gq_n, gq_d,
    gk_b, gk_h, gk_n, gk_d,
    PER_SAMPLE: tl.constexpr, PER_HEAD: tl.constexpr,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr,
    INTERLEAVED: tl.constexpr, WIDE: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    part, start = sample_and_start(tokens, TOKENS)
    n = start + tl.arange(0, TOKENS)
    own = tl.program_id(1).to(tl.int64)
    dc = tl.zeros((TOKENS, PADDED), WIDE)
    ds = tl.zeros((TOKENS, PADDED), WIDE)
    # The table of one sample sums over it; a shared one over every `splits`-th sample from `part`.
    sample = part
    last = part + 1 if PER_SAMPLE else batch
    stride = 1 if PER_SAMPLE else splits
    while sample < last:
        head = own if PER_HEAD else own * 0
        end = own + 1 if PER_HEAD else heads_q + heads_k
        while head < end:
            if PER_HEAD or head < heads_q:
                of_cos, of_sin = _pair_products(
                    q + (sample * q_b + head * q_h) * ALIGN,
                    grad_q + (sample * gq_b + head * gq_h) * ALIGN,
                    n, tokens, q_n, q_d, gq_n, gq_d,
                    PAIRS, PADDED, TOKENS, INTERLEAVED, WIDE, ALIGN,
                )  # fmt: skip
                dc += of_cos
                ds += of_sin
            if own < heads_k if PER_HEAD else head >= heads_q:
                head_k = head if PER_HEAD else head - heads_q
                of_cos, of_sin = _pair_products(
                    k + (sample * k_b + head_k * k_h) * ALIGN,
                    grad_k + (sample * gk_b + head_k * gk_h) * ALIGN,
                    n, tokens, k_n, k_d, gk_n, gk_d,
                    PAIRS, PADDED, TOKENS, INTERLEAVED, WIDE, ALIGN,
                )  # fmt: skip
                dc += of_cos
                ds += of_sin
            head += 1
        sample += stride
    p = tl.arange(0, PADDED)
    inside = (n < tokens)[:, None] & (p < PAIRS)[None, :]
    place = ((part * tl.num_programs(1) + own) * tokens + n[:, None]) * PAIRS + p[None, :]
    tl.store(grad_cos + place, dc, mask=inside)
    tl.store(grad_sin + place, ds, mask=inside)

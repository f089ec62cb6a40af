"""RMS norm, matrix and rotation of queries and keys in one pass (Triton).

    out = R G x / rms(x)        G = A diag(gamma) includes the weights of the norm

Every value is read once and written once; each program holds the matrix of one head. Products are
computed as three TF32 products each (`tf32x3`), which have float32 precision on tensor cores.
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
    broadcast_table,
    kernel,
    load_block,
    load_table,
    store_block,
    store_pairs,
    with_four_axes,
)

# Tokens per block, and the largest number of partial sums over tokens in the backward pass.
BLOCK, MOST_SPLITS = 64, 32


def normed_qk(
    q: Queries,
    k: Keys,
    matrix_q: Float[Tensor, "#heads head_dim head_dim"],
    matrix_k: Float[Tensor, "#key_heads head_dim head_dim"],
    cos: Table,
    sin: Table,
    *,
    eps: float,
    interleaved: bool,
) -> tuple[Queries, Keys]:
    """Compute R G x / rms(x) of queries and keys in one launch.

    Args:
        q: Queries, with any strides.
        k: Keys, likewise.
        matrix_q: G = A_q diag(gamma_q), per head or one for all heads.
        matrix_k: G = A_k diag(gamma_k), likewise.
        cos: Cosines of the angles.
        sin: Sines of the angles.
        eps: Added to the mean square.
        interleaved: The layout; False is "half".

    Returns:
        Contiguous queries and keys, differentiable in q, k and the matrices, not in the table.

    Raises:
        ValueError: If q and k have different numbers of heads but heads have tables of their own.
    """
    cos, sin = with_four_axes(cos, q, k), with_four_axes(sin, q, k)
    matrix_q = matrix_q.float().expand(q.shape[1], -1, -1)
    matrix_k = matrix_k.float().expand(k.shape[1], -1, -1)
    return _normed_op(q, k, matrix_q, matrix_k, cos, sin, eps, interleaved)


@torch.library.custom_op("harope::normed_qk", mutates_args=())
def _normed_op(
    q: Tensor,
    k: Tensor,
    matrix_q: Tensor,
    matrix_k: Tensor,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    interleaved: bool,
) -> tuple[Tensor, Tensor]:
    """Return contiguous queries and keys.

    q and k have any strides; matrices are (heads, head_dim, head_dim) in float32; the table has
    four axes.
    """
    cos, sin = broadcast_table(cos, q), broadcast_table(sin, q)
    out_q = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    out_k = torch.empty(k.shape, dtype=k.dtype, device=k.device)
    batch, heads_q, tokens, head_dim = q.shape
    grid = (triton.cdiv(tokens, BLOCK), heads_q + k.shape[1], batch)
    _normed[grid](
        q, k, out_q, out_k, matrix_q, matrix_k, cos, sin, heads_q, tokens, eps,
        *q.stride(), *k.stride(), *out_q.stride(), *out_k.stride(),
        *matrix_q.stride(), *matrix_k.stride(), *cos.stride(), *sin.stride(),
        **_sizes(head_dim, interleaved),
    )  # fmt: skip
    return out_q, out_k


@_normed_op.register_fake
def _(q: Tensor, k: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


@torch.library.custom_op("harope::normed_qk_backward", mutates_args=())
def _normed_backward_op(
    q: Tensor,
    k: Tensor,
    grad_q: Tensor,
    grad_k: Tensor,
    matrix_q: Tensor,
    matrix_k: Tensor,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    interleaved: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, of k, and of the matrices of all heads of both."""
    cos, sin = broadcast_table(cos, q), broadcast_table(sin, q)
    dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    dk = torch.empty(k.shape, dtype=k.dtype, device=k.device)
    batch, heads_q, tokens, head_dim = q.shape
    heads = heads_q + k.shape[1]
    splits = min(MOST_SPLITS, batch * triton.cdiv(tokens, BLOCK))
    sums = torch.empty(splits, heads, head_dim, head_dim, device=q.device)
    _normed_gradient[(splits, heads)](
        q, k, grad_q, grad_k, dq, dk, sums, matrix_q, matrix_k, cos, sin,
        heads_q, batch, tokens, splits, eps,
        *q.stride(), *k.stride(), *grad_q.stride(), *grad_k.stride(), *dq.stride(), *dk.stride(),
        *matrix_q.stride(), *matrix_k.stride(), *cos.stride(), *sin.stride(),
        **_sizes(head_dim, interleaved),
    )  # fmt: skip
    return dq, dk, sums.sum(0)


@_normed_backward_op.register_fake
def _(
    q: Tensor, k: Tensor, grad_q: Tensor, grad_k: Tensor, matrix_q: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    heads = q.shape[1] + k.shape[1]
    return (
        q.new_empty(q.shape),
        k.new_empty(k.shape),
        matrix_q.new_empty(heads, *matrix_q.shape[1:]),
    )


def _save_normed(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.eps, ctx.interleaved = inputs
    ctx.save_for_backward(*tensors)


def _normed_backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Tensor | None, ...]:
    q, k, *rest = ctx.saved_tensors
    dq, dk, sums = _normed_backward_op(q, k, grad_q, grad_k, *rest, ctx.eps, ctx.interleaved)
    return dq, dk, sums[: q.shape[1]], sums[q.shape[1] :], None, None, None, None


_normed_op.register_autograd(_normed_backward, setup_context=_save_normed)


def _sizes(head_dim: int, interleaved: bool) -> dict[str, int | bool]:
    # A product of blocks needs at least 16 rows and columns.
    padded = max(16, triton.next_power_of_2(head_dim // 2))
    return {"PAIRS": head_dim // 2, "PADDED": padded, "TOKENS": BLOCK, "INTERLEAVED": interleaved}


@kernel
@no_type_check
def _normalise(x, eps, PAIRS: tl.constexpr):
    """Return x / rms(x) and 1 / rms(x)."""
    scale = tl.rsqrt(tl.sum(x * x, axis=1) / (2 * PAIRS) + eps)
    return x * scale[:, None], scale


@kernel
@no_type_check
def _channels(PAIRS: tl.constexpr, PADDED: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Return the indices of the first and of the second channels of all pairs."""
    p = tl.arange(0, PADDED)
    if INTERLEAVED:
        first = 2 * p
        second = 2 * p + 1
    else:
        first = p
        second = p + PAIRS
    return first, second


@kernel
@no_type_check
def _rows(matrix, rows, m_i, m_j, PAIRS: tl.constexpr, PADDED: tl.constexpr):
    """Load rows of a matrix, (PADDED, 2 PADDED), padded with zeros."""
    p = tl.arange(0, PADDED)
    d = tl.arange(0, 2 * PADDED)
    inside = (p < PAIRS)[:, None] & (d < 2 * PAIRS)[None, :]
    return tl.load(matrix + rows[:, None] * m_i + d[None, :] * m_j, mask=inside, other=0)


@kernel
@no_type_check
def _forward_block(
    x, out, matrix, cos, sin, n, tokens, eps,
    x_n, x_d, out_n, out_d, m_i, m_j, c_n, c_p, s_n, s_p,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr, INTERLEAVED: tl.constexpr,
):  # fmt: skip
    d = tl.arange(0, 2 * PADDED)
    values = load_block(x, d, d < 2 * PAIRS, n, tokens, x_n, x_d, tl.float32)
    unit, _ = _normalise(values, eps, PAIRS)
    first, second = _channels(PAIRS, PADDED, INTERLEAVED)
    rows_a = _rows(matrix, first, m_i, m_j, PAIRS, PADDED)
    rows_b = _rows(matrix, second, m_i, m_j, PAIRS, PADDED)
    a = tl.dot(unit, tl.trans(rows_a), input_precision="tf32x3")
    b = tl.dot(unit, tl.trans(rows_b), input_precision="tf32x3")
    c, s = load_table(cos, sin, n, tokens, c_n, c_p, s_n, s_p, PAIRS, PADDED, tl.float32)
    rotated_a = a * c - b * s
    rotated_b = a * s + b * c
    store_pairs(
        out, rotated_a, rotated_b, n, tokens, out_n, out_d, PAIRS, PADDED, TOKENS, INTERLEAVED
    )  # fmt: skip


@kernel
@no_type_check
def _normed(
    q, k, out_q, out_k, matrix_q, matrix_k, cos, sin, heads_q, tokens, eps,
    q_b, q_h, q_n, q_d,
    k_b, k_h, k_n, k_d,
    oq_b, oq_h, oq_n, oq_d,
    ok_b, ok_h, ok_n, ok_d,
    mq_h, mq_i, mq_j, mk_h, mk_i, mk_j,
    c_b, c_h, c_n, c_p,
    s_b, s_h, s_n, s_p,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr, INTERLEAVED: tl.constexpr,
):  # fmt: skip
    # Offsets in 64 bits: a batch of long sequences has more than 2^31 values.
    n = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    head = tl.program_id(1).to(tl.int64)
    batch = tl.program_id(2).to(tl.int64)
    if head < heads_q:
        _forward_block(
            q + batch * q_b + head * q_h, out_q + batch * oq_b + head * oq_h,
            matrix_q + head * mq_h, cos + batch * c_b + head * c_h, sin + batch * s_b + head * s_h,
            n, tokens, eps, q_n, q_d, oq_n, oq_d, mq_i, mq_j, c_n, c_p, s_n, s_p,
            PAIRS, PADDED, TOKENS, INTERLEAVED,
        )  # fmt: skip
    else:
        head -= heads_q
        _forward_block(
            k + batch * k_b + head * k_h, out_k + batch * ok_b + head * ok_h,
            matrix_k + head * mk_h, cos + batch * c_b + head * c_h, sin + batch * s_b + head * s_h,
            n, tokens, eps, k_n, k_d, ok_n, ok_d, mk_i, mk_j, c_n, c_p, s_n, s_p,
            PAIRS, PADDED, TOKENS, INTERLEAVED,
        )  # fmt: skip


@kernel
@no_type_check
def _backward_head(
    x, grad, out, sums, matrix, cos, sin, batches, tokens, splits, eps,
    x_b, x_n, x_d, g_b, g_n, g_d, out_b, out_n, out_d, m_i, m_j, c_b, c_n, c_p, s_b, s_n, s_p,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr, INTERLEAVED: tl.constexpr,
):  # fmt: skip
    """Process every `splits`-th block of tokens of one head."""
    first, second = _channels(PAIRS, PADDED, INTERLEAVED)
    rows_a = _rows(matrix, first, m_i, m_j, PAIRS, PADDED)
    rows_b = _rows(matrix, second, m_i, m_j, PAIRS, PADDED)
    sum_a = tl.zeros((PADDED, 2 * PADDED), tl.float32)
    sum_b = tl.zeros((PADDED, 2 * PADDED), tl.float32)
    blocks = (tokens + TOKENS - 1) // TOKENS
    block = tl.program_id(0).to(tl.int64)
    p = tl.arange(0, PADDED)
    d = tl.arange(0, 2 * PADDED)
    while block < blocks * batches:
        batch = block // blocks
        n = (block % blocks) * TOKENS + tl.arange(0, TOKENS)
        values = load_block(x + batch * x_b, d, d < 2 * PAIRS, n, tokens, x_n, x_d, tl.float32)
        unit, scale = _normalise(values, eps, PAIRS)
        own_grad = grad + batch * g_b
        ga = load_block(own_grad, first, p < PAIRS, n, tokens, g_n, g_d, tl.float32)
        gb = load_block(own_grad, second, p < PAIRS, n, tokens, g_n, g_d, tl.float32)
        c, s = load_table(
            cos + batch * c_b, sin + batch * s_b,
            n, tokens, c_n, c_p, s_n, s_p, PAIRS, PADDED, tl.float32,
        )  # fmt: skip
        back_a = ga * c + gb * s
        back_b = gb * c - ga * s
        sum_a += tl.dot(tl.trans(back_a), unit, input_precision="tf32x3")
        sum_b += tl.dot(tl.trans(back_b), unit, input_precision="tf32x3")
        du = tl.dot(back_a, rows_a, input_precision="tf32x3")
        du += tl.dot(back_b, rows_b, input_precision="tf32x3")
        along = tl.sum(unit * du, axis=1) / (2 * PAIRS)
        dx = scale[:, None] * (du - unit * along[:, None])
        store_block(out + batch * out_b, dx, d, d < 2 * PAIRS, n, tokens, out_n, out_d)
        block += splits
    inside = (p < PAIRS)[:, None] & (d < 2 * PAIRS)[None, :]
    tl.store(sums + first[:, None] * (2 * PAIRS) + d[None, :], sum_a, mask=inside)
    tl.store(sums + second[:, None] * (2 * PAIRS) + d[None, :], sum_b, mask=inside)


@kernel
@no_type_check
def _normed_gradient(
    q, k, grad_q, grad_k, dq, dk, sums, matrix_q, matrix_k, cos, sin,
    heads_q, batches, tokens, splits, eps,
    q_b, q_h, q_n, q_d,
    k_b, k_h, k_n, k_d,
    gq_b, gq_h, gq_n, gq_d,
    gk_b, gk_h, gk_n, gk_d,
    dq_b, dq_h, dq_n, dq_d,
    dk_b, dk_h, dk_n, dk_d,
    mq_h, mq_i, mq_j, mk_h, mk_i, mk_j,
    c_b, c_h, c_n, c_p,
    s_b, s_h, s_n, s_p,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr, INTERLEAVED: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1).to(tl.int64)
    part = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + head
    own_sums = sums + part * (4 * PAIRS * PAIRS)
    if head < heads_q:
        _backward_head(
            q + head * q_h, grad_q + head * gq_h, dq + head * dq_h, own_sums,
            matrix_q + head * mq_h, cos + head * c_h, sin + head * s_h,
            batches, tokens, splits, eps, q_b, q_n, q_d, gq_b, gq_n, gq_d, dq_b, dq_n, dq_d,
            mq_i, mq_j, c_b, c_n, c_p, s_b, s_n, s_p, PAIRS, PADDED, TOKENS, INTERLEAVED,
        )  # fmt: skip
    else:
        head -= heads_q
        _backward_head(
            k + head * k_h, grad_k + head * gk_h, dk + head * dk_h, own_sums,
            matrix_k + head * mk_h, cos + head * c_h, sin + head * s_h,
            batches, tokens, splits, eps, k_b, k_n, k_d, gk_b, gk_n, gk_d, dk_b, dk_n, dk_d,
            mk_i, mk_j, c_b, c_n, c_p, s_b, s_n, s_p, PAIRS, PADDED, TOKENS, INTERLEAVED,
        )  # fmt: skip

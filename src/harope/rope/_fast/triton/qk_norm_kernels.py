"""The kernels of QK-norm, matrix and rotation, and their launchers (Triton).

    out = R (G x) / rms(x)        G = A diag(gamma) includes the weights of the norm

Every value is read once and written once; each program holds the matrix of one head and uses it
for several blocks of tokens. In half precision, G is the sum of two matrices in bfloat16, which
differs from float32 by 2^-17: far less than the rounding of the result. As the factor 1 / rms(x)
follows the product, x itself needs no pieces. The backward pass has two kernels: one for the
gradients of queries and keys, one for those of the matrices.
"""

from dataclasses import dataclass
from functools import partial
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from harope.rope._fast.triton.common import (
    Keys,
    Queries,
    Table,
    alignment,
    broadcast_table,
    kernel,
    load_block,
    load_pairs,
    load_table,
    row_strides,
    sample_and_start,
    store_block,
    store_pairs,
    with_adjacent_channels,
    with_dense_matrices,
)
from harope.rope._fast.triton.tiles import Tile

# Largest number of partial sums over tokens in the backward pass.
MOST_SPLITS = 32
# Blocks for which a program loads its matrix once, and programs that must be left to fill a GPU.
MOST_WALKED, ENOUGH_PROGRAMS = 8, 1024


@dataclass(frozen=True)
class NormedInputs:
    """What all three kernels read, with adjacent channels."""

    q: Queries
    k: Keys
    cos: Table
    sin: Table
    eps: float
    interleaved: bool

    @classmethod
    def of(
        cls, q: Queries, k: Keys, cos: Table, sin: Table, eps: float, interleaved: bool
    ) -> "NormedInputs":
        """Copy tensors whose channels are not adjacent, and broadcast the table.

        Args:
            q: Queries, with any strides.
            k: Keys, likewise.
            cos: Cosines with four axes.
            sin: Sines with four axes.
            eps: Added to the mean square.
            interleaved: The layout; False is "half".
        """
        if cos.stride() != sin.stride() or cos.stride(-1) != 1:
            cos, sin = cos.contiguous(), sin.contiguous()
        tables = broadcast_table(cos, q), broadcast_table(sin, q)
        return cls(with_adjacent_channels(q), with_adjacent_channels(k), *tables, eps, interleaved)

    @property
    def heads(self) -> int:
        """Heads of queries and keys together."""
        return self.q.shape[1] + self.k.shape[1]

    @property
    def is_empty(self) -> bool:
        """Whether there are no tokens."""
        return self.q.shape[0] * self.q.shape[2] == 0

    def walked(self, tile: Tile) -> int:
        """Return how many blocks a program processes: one, unless there are very many.

        Args:
            tile: Sizes of the programs.
        """
        programs = triton.cdiv(self.q.shape[2], tile.tokens) * self.q.shape[0] * self.heads
        return min(MOST_WALKED, max(1, programs // ENOUGH_PROGRAMS))

    def grid(self, tile: Tile) -> tuple[int, int]:
        """Return the grid of a kernel that computes a result for every token.

        Args:
            tile: Sizes of its programs.
        """
        batch, _, tokens, _ = self.q.shape
        # The second axis of a grid is limited to 65,535, so the batch is part of the first.
        return triton.cdiv(tokens, tile.tokens * self.walked(tile)) * batch, self.heads

    def constants(self, tile: Tile, align: int) -> dict[str, int | bool]:
        """Return the compile-time constants that all three kernels have.

        Args:
            tile: Sizes of its programs.
            align: Unit of the strides of queries, keys and gradients.
        """
        pairs = self.q.shape[-1] // 2
        return {
            "PAIRS": pairs,
            # A product of blocks needs at least 16 rows and columns.
            "PADDED": max(16, triton.next_power_of_2(pairs)),
            "TOKENS": tile.tokens,
            "INTERLEAVED": self.interleaved,
            "PIECES": {torch.bfloat16: 1, torch.float16: 2, torch.float32: 0}[self.q.dtype],
            # The interpreter would multiply numbers in bfloat16 as integers.
            "OPERAND": tl.float32 if self.q.device.type == "cpu" else tl.bfloat16,
            "MATRIX_PIECES": 0 if self.q.dtype == torch.float32 else 2,
            "ALIGN": align,
            "TABLE_ALIGN": alignment(self.cos),
            "num_warps": tile.warps,
            # Two programs with loads of one block share a processor, which hides latency as well.
            "num_stages": 1,
        }


def launch_normed(
    inputs: NormedInputs, matrix_q: Tensor, matrix_k: Tensor, tile: Tile
) -> tuple[Queries, Keys]:
    """Launch the forward kernel.

    Args:
        inputs: Queries, keys and table.
        matrix_q: G of queries, (heads, head_dim, head_dim) in float32.
        matrix_k: G of keys, likewise.
        tile: Sizes of its programs.

    Returns:
        Contiguous queries and keys.
    """
    q, k = inputs.q, inputs.k
    out_q, out_k = _empty(q), _empty(k)
    if inputs.is_empty:
        return out_q, out_k
    matrix_q, matrix_k = with_dense_matrices(matrix_q), with_dense_matrices(matrix_k)
    align = alignment(q, k)
    _normed[inputs.grid(tile)](
        q, k, out_q, out_k, matrix_q, matrix_k, inputs.cos, inputs.sin,
        q.shape[1], k.shape[1], q.shape[2], inputs.walked(tile), inputs.eps,
        *row_strides(align, q, k), matrix_q.stride(0), matrix_k.stride(0),
        *row_strides(alignment(inputs.cos), inputs.cos),
        **inputs.constants(tile, align),
    )  # fmt: skip
    return out_q, out_k


def launch_input_gradient(
    inputs: NormedInputs,
    grad_q: Queries,
    grad_k: Keys,
    matrix_q: Tensor,
    matrix_k: Tensor,
    tile: Tile,
) -> tuple[Queries, Keys]:
    """Launch the kernel of the gradients of queries and keys.

    Args:
        inputs: Queries, keys and table.
        grad_q: Gradient of the resulting queries.
        grad_k: Gradient of the resulting keys.
        matrix_q: G of queries, (heads, head_dim, head_dim) in float32.
        matrix_k: G of keys, likewise.
        tile: Sizes of its programs.

    Returns:
        Contiguous gradients of queries and keys.
    """
    q, k = inputs.q, inputs.k
    out_q, out_k = _empty(q), _empty(k)
    if inputs.is_empty:
        return out_q, out_k
    matrix_q, matrix_k = with_dense_matrices(matrix_q), with_dense_matrices(matrix_k)
    grad_q, grad_k = with_adjacent_channels(grad_q), with_adjacent_channels(grad_k)
    align = alignment(q, k, grad_q, grad_k)
    _normed_input_gradient[inputs.grid(tile)](
        q, k, grad_q, grad_k, out_q, out_k, matrix_q, matrix_k, inputs.cos, inputs.sin,
        q.shape[1], k.shape[1], q.shape[2], inputs.walked(tile), inputs.eps,
        *row_strides(align, q, k, grad_q, grad_k), matrix_q.stride(0), matrix_k.stride(0),
        *row_strides(alignment(inputs.cos), inputs.cos),
        **inputs.constants(tile, align),
    )  # fmt: skip
    return out_q, out_k


def launch_matrix_gradient(
    inputs: NormedInputs, grad_q: Queries, grad_k: Keys, tile: Tile
) -> Float[Tensor, "both_heads head_dim head_dim"]:
    """Launch the kernel of the gradients of the matrices.

    Args:
        inputs: Queries, keys and table.
        grad_q: Gradient of the resulting queries.
        grad_k: Gradient of the resulting keys.
        tile: Sizes of its programs, which walk over as many blocks as there are.

    Returns:
        Gradients of G of all heads of queries, then of keys, in float32.
    """
    q, k = inputs.q, inputs.k
    batch, _, tokens, head_dim = q.shape
    splits = min(MOST_SPLITS, batch * triton.cdiv(tokens, tile.tokens))
    if inputs.is_empty:
        return torch.zeros(inputs.heads, head_dim, head_dim, device=q.device)
    sums = torch.empty(splits, inputs.heads, head_dim, head_dim, device=q.device)
    grad_q, grad_k = with_adjacent_channels(grad_q), with_adjacent_channels(grad_k)
    align = alignment(q, k, grad_q, grad_k)
    _normed_matrix_gradient[(splits, inputs.heads)](
        q, k, grad_q, grad_k, inputs.cos, inputs.sin, sums,
        q.shape[1], batch, tokens, splits, inputs.eps,
        *row_strides(align, q, k, grad_q, grad_k),
        *row_strides(alignment(inputs.cos), inputs.cos),
        **inputs.constants(tile, align),
    )  # fmt: skip
    return sums.sum(0)


def _empty(x: Tensor) -> Tensor:
    """Return a contiguous tensor of the same shape."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@kernel
@no_type_check
def _paired_channels(PAIRS: tl.constexpr, PADDED: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Return the channels of a head in the order a0 b0 a1 b1 of their pairs, whatever the layout.

    Valid are the first 2 PAIRS of them.
    """
    j = tl.arange(0, 2 * PADDED)
    return j if INTERLEAVED else j // 2 + (j % 2) * PAIRS


@kernel
@no_type_check
def _paired_rows(
    matrix,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, INTERLEAVED: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    """Load a matrix in pieces, with its rows in the order of pairs, padded with zeros."""
    rows = _paired_channels(PAIRS, PADDED, INTERLEAVED)
    d = tl.arange(0, 2 * PADDED)
    inside = (d < 2 * PAIRS)[:, None] & (d < 2 * PAIRS)[None, :]
    values = tl.load(matrix + (rows * (2 * PAIRS))[:, None] + d[None, :], mask=inside, other=0)
    return _split(values, PIECES)


@kernel
@no_type_check
def _split(x, PIECES: tl.constexpr):
    """Return x as a sum of PIECES numbers in bfloat16, two of which differ by 2^-17 from float32.

    The second piece is not to be used if there is only one. No pieces leave x in float32.
    """
    if PIECES == 2:
        wide = x.to(tl.float32)
        high = wide.to(tl.bfloat16)
        low = (wide - high.to(tl.float32)).to(tl.bfloat16)
    else:
        high = x
        low = x
    return high, low


@kernel
@no_type_check
def _add_product(
    total, left, left_low, right, right_low,
    LEFT_PIECES: tl.constexpr, RIGHT_PIECES: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    """Return total + left @ right, computed on tensor cores with sums in float32.

    Without pieces, float32 operands are multiplied as three products of TF32, which leaves the
    precision of float32. Pieces are multiplied as OPERAND, which is bfloat16.
    """
    if LEFT_PIECES == 0:
        total += tl.dot(left, right, input_precision="tf32x3")
    else:
        # The smallest products first.
        if RIGHT_PIECES == 2:
            total = tl.dot(left.to(OPERAND), right_low.to(OPERAND), total)
        if LEFT_PIECES == 2:
            total = tl.dot(left_low.to(OPERAND), right.to(OPERAND), total)
        total = tl.dot(left.to(OPERAND), right.to(OPERAND), total)
    return total


@kernel
@no_type_check
def _scale(x, eps, PAIRS: tl.constexpr):
    """Return 1 / rms(x) of tokens in float32."""
    return tl.rsqrt(tl.sum(x * x, axis=1) / (2 * PAIRS) + eps)


@partial(kernel, unspecialised=("walked",))
@no_type_check
def _normed(
    q, k, out_q, out_k, matrix_q, matrix_k, cos, sin,
    heads_q, heads_k, tokens, walked, eps,
    q_b, q_h, q_n, k_b, k_h, k_n, mq_h, mk_h, t_b, t_h, t_n,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr,
    INTERLEAVED: tl.constexpr, PIECES: tl.constexpr, MATRIX_PIECES: tl.constexpr,
    OPERAND: tl.constexpr, ALIGN: tl.constexpr, TABLE_ALIGN: tl.constexpr,
):  # fmt: skip
    """Process `walked` blocks of one head, for which it loads the matrix once."""
    batch, start = sample_and_start(tokens, TOKENS * walked)
    head = tl.program_id(1).to(tl.int64)
    is_q = head < heads_q
    own = tl.where(is_q, head, head - heads_q)
    x = tl.where(is_q, q + (batch * q_b + own * q_h) * ALIGN, k + (batch * k_b + own * k_h) * ALIGN)
    x_n = tl.where(is_q, q_n, k_n)
    matrix = tl.where(is_q, matrix_q + own * mq_h, matrix_k + own * mk_h)
    out_head = batch * tl.where(is_q, heads_q, heads_k) + own
    out = tl.where(is_q, out_q, out_k) + out_head * tokens * (2 * PAIRS)
    table = (batch * t_b + own * t_h) * TABLE_ALIGN
    rows, rows_low = _paired_rows(matrix, PAIRS, PADDED, INTERLEAVED, MATRIX_PIECES)
    d = tl.arange(0, 2 * PADDED)
    for step in range(walked):
        n = start + step * TOKENS + tl.arange(0, TOKENS)
        values = load_block(x, d, d < 2 * PAIRS, n, tokens, x_n, 1, ALIGN, x.dtype.element_ty)
        # The factor of the norm follows the product, whose operand is then the input as it is.
        scale = _scale(values.to(tl.float32), eps, PAIRS)[:, None]
        high, low = _split(values, PIECES)
        mapped = _add_product(
            tl.zeros((TOKENS, 2 * PADDED), tl.float32),
            high, low, tl.trans(rows), tl.trans(rows_low), PIECES, MATRIX_PIECES, OPERAND,
        )  # fmt: skip
        a, b = tl.split(tl.reshape(mapped * scale, (TOKENS, PADDED, 2)))
        c, s = load_table(
            cos + table, sin + table, n, tokens, t_n, 1, t_n, 1,
            PAIRS, PADDED, TABLE_ALIGN, tl.float32,
        )  # fmt: skip
        store_pairs(
            out, a * c - b * s, a * s + b * c, n, tokens, 2 * PAIRS, 1,
            PAIRS, PADDED, TOKENS, INTERLEAVED, 1,
        )  # fmt: skip


@kernel
@no_type_check
def _load_unrotated(
    grad, cos, sin, n, tokens, g_n, t_n,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr, INTERLEAVED: tl.constexpr,
    ALIGN: tl.constexpr, TABLE_ALIGN: tl.constexpr,
):  # fmt: skip
    """Load gradients of the output and rotate them back; channels in the order of pairs."""
    ga, gb = load_pairs(
        grad, n, tokens, g_n, 1, PAIRS, PADDED, TOKENS, INTERLEAVED, tl.float32, ALIGN
    )  # fmt: skip
    c, s = load_table(
        cos, sin, n, tokens, t_n, 1, t_n, 1, PAIRS, PADDED, TABLE_ALIGN, tl.float32
    )  # fmt: skip
    return tl.reshape(tl.join(ga * c + gb * s, gb * c - ga * s), (TOKENS, 2 * PADDED))


@partial(kernel, unspecialised=("walked",))
@no_type_check
def _normed_input_gradient(
    q, k, grad_q, grad_k, out_q, out_k, matrix_q, matrix_k, cos, sin,
    heads_q, heads_k, tokens, walked, eps,
    q_b, q_h, q_n, k_b, k_h, k_n, gq_b, gq_h, gq_n, gk_b, gk_h, gk_n,
    mq_h, mk_h, t_b, t_h, t_n,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr,
    INTERLEAVED: tl.constexpr, PIECES: tl.constexpr, MATRIX_PIECES: tl.constexpr,
    OPERAND: tl.constexpr, ALIGN: tl.constexpr, TABLE_ALIGN: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of `walked` blocks of queries or keys of one head."""
    batch, start = sample_and_start(tokens, TOKENS * walked)
    head = tl.program_id(1).to(tl.int64)
    is_q = head < heads_q
    own = tl.where(is_q, head, head - heads_q)
    x = tl.where(is_q, q + (batch * q_b + own * q_h) * ALIGN, k + (batch * k_b + own * k_h) * ALIGN)
    grad = tl.where(
        is_q, grad_q + (batch * gq_b + own * gq_h) * ALIGN,
        grad_k + (batch * gk_b + own * gk_h) * ALIGN,
    )  # fmt: skip
    x_n = tl.where(is_q, q_n, k_n)
    g_n = tl.where(is_q, gq_n, gk_n)
    matrix = tl.where(is_q, matrix_q + own * mq_h, matrix_k + own * mk_h)
    out_head = batch * tl.where(is_q, heads_q, heads_k) + own
    out = tl.where(is_q, out_q, out_k) + out_head * tokens * (2 * PAIRS)
    table = (batch * t_b + own * t_h) * TABLE_ALIGN
    rows, rows_low = _paired_rows(matrix, PAIRS, PADDED, INTERLEAVED, MATRIX_PIECES)
    d = tl.arange(0, 2 * PADDED)
    for step in range(walked):
        n = start + step * TOKENS + tl.arange(0, TOKENS)
        back = _load_unrotated(
            grad, cos + table, sin + table, n, tokens, g_n, t_n,
            PAIRS, PADDED, TOKENS, INTERLEAVED, ALIGN, TABLE_ALIGN,
        )  # fmt: skip
        high, low = _split(back, MATRIX_PIECES)
        du = _add_product(
            tl.zeros((TOKENS, 2 * PADDED), tl.float32),
            high, low, rows, rows_low, MATRIX_PIECES, MATRIX_PIECES, OPERAND,
        )  # fmt: skip
        values = load_block(x, d, d < 2 * PAIRS, n, tokens, x_n, 1, ALIGN, tl.float32)
        scale = _scale(values, eps, PAIRS)
        along = tl.sum(values * du, axis=1) * scale * scale / (2 * PAIRS)
        dx = scale[:, None] * (du - values * along[:, None])
        store_block(out, dx, d, d < 2 * PAIRS, n, tokens, 2 * PAIRS, 1, 1)


@kernel
@no_type_check
def _normed_matrix_gradient(
    q, k, grad_q, grad_k, cos, sin, sums,
    heads_q, batches, tokens, splits, eps,
    q_b, q_h, q_n, k_b, k_h, k_n, gq_b, gq_h, gq_n, gk_b, gk_h, gk_n,
    t_b, t_h, t_n,
    PAIRS: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr,
    INTERLEAVED: tl.constexpr, PIECES: tl.constexpr, MATRIX_PIECES: tl.constexpr,
    OPERAND: tl.constexpr, ALIGN: tl.constexpr, TABLE_ALIGN: tl.constexpr,
):  # fmt: skip
    """Sum the gradient of the matrix of one head over every `splits`-th block of tokens."""
    head = tl.program_id(1).to(tl.int64)
    is_q = head < heads_q
    own = tl.where(is_q, head, head - heads_q)
    x = tl.where(is_q, q + own * q_h * ALIGN, k + own * k_h * ALIGN)
    grad = tl.where(is_q, grad_q + own * gq_h * ALIGN, grad_k + own * gk_h * ALIGN)
    x_b = tl.where(is_q, q_b, k_b)
    x_n = tl.where(is_q, q_n, k_n)
    g_b = tl.where(is_q, gq_b, gk_b)
    g_n = tl.where(is_q, gq_n, gk_n)
    d = tl.arange(0, 2 * PADDED)
    total = tl.zeros((2 * PADDED, 2 * PADDED), tl.float32)
    blocks = (tokens + TOKENS - 1) // TOKENS
    block = tl.program_id(0).to(tl.int64)
    while block < blocks * batches:
        batch = block // blocks
        n = (block % blocks) * TOKENS + tl.arange(0, TOKENS)
        table = (batch * t_b + own * t_h) * TABLE_ALIGN
        values = load_block(
            x + batch * x_b * ALIGN, d, d < 2 * PAIRS, n, tokens, x_n, 1, ALIGN, x.dtype.element_ty
        )  # fmt: skip
        scale = _scale(values.to(tl.float32), eps, PAIRS)[:, None]
        back = _load_unrotated(
            grad + batch * g_b * ALIGN, cos + table, sin + table, n, tokens, g_n, t_n,
            PAIRS, PADDED, TOKENS, INTERLEAVED, ALIGN, TABLE_ALIGN,
        )  # fmt: skip
        left, left_low = _split(tl.trans(back * scale), MATRIX_PIECES)
        right, right_low = _split(values, PIECES)
        total = _add_product(
            total, left, left_low, right, right_low, MATRIX_PIECES, PIECES, OPERAND
        )
        block += splits
    part = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + head
    own_sums = sums + part * (4 * PAIRS * PAIRS)
    rows = _paired_channels(PAIRS, PADDED, INTERLEAVED)
    inside = (d < 2 * PAIRS)[:, None] & (d < 2 * PAIRS)[None, :]
    tl.store(own_sums + (rows * (2 * PAIRS))[:, None] + d[None, :], total, mask=inside)

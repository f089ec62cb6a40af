"""The kernels as custom operators of torch, with fake tensors and gradients."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harope.rope._fast.triton.qk_norm import launch_normed, launch_normed_gradient
from harope.rope._fast.triton.rotate import launch_rotation, launch_table_gradient

Tokens = Float[Tensor, "batch heads tokens head_dim"]
Keys = Float[Tensor, "batch key_heads tokens head_dim"]
Table = Float[Tensor, "*shape tokens pairs"]


def rotate_qk(
    q: Tokens, k: Keys, cos: Table, sin: Table, *, interleaved: bool
) -> tuple[Tokens, Keys]:
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
    cos, sin = _table(cos, q, k), _table(sin, q, k)
    return _rotate_op(q, k, cos, sin, interleaved, False)


def normed_qk(
    q: Tokens,
    k: Keys,
    matrix_q: Float[Tensor, "#heads head_dim head_dim"],
    matrix_k: Float[Tensor, "#key_heads head_dim head_dim"],
    cos: Table,
    sin: Table,
    *,
    eps: float,
    interleaved: bool,
) -> tuple[Tokens, Keys]:
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
    """
    cos, sin = _table(cos, q, k), _table(sin, q, k)
    matrix_q = matrix_q.float().expand(q.shape[1], -1, -1)
    matrix_k = matrix_k.float().expand(k.shape[1], -1, -1)
    return _normed_op(q, k, matrix_q, matrix_k, cos, sin, eps, interleaved)


def _table(values: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Return the table with four axes."""
    table = values[(None,) * (4 - values.ndim)]
    if table.shape[1] > 1 and q.shape[1] != k.shape[1]:
        raise ValueError(
            f"q has {q.shape[1]} heads and k {k.shape[1]} but the table has {table.shape[1]}: "
            f"share it among the heads, or give q and k as many"
        )
    return table


def _broadcast(table: Tensor, q: Tensor) -> Tensor:
    """Return a view with the batch and heads of q; axes of size one get the stride 0."""
    return table.expand(q.shape[0], q.shape[1] if table.shape[1] > 1 else 2, -1, -1)


@torch.library.custom_op("harope::rotate_qk", mutates_args=())
def _rotate_op(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, inverse: bool
) -> tuple[Tensor, Tensor]:
    return launch_rotation(q, k, _broadcast(cos, q), _broadcast(sin, q), interleaved, inverse)


@_rotate_op.register_fake
def _(q: Tensor, k: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


@torch.library.custom_op("harope::rotate_qk_table", mutates_args=())
def _table_op(
    q: Tensor, k: Tensor, grad_q: Tensor, grad_k: Tensor, cos: Tensor, interleaved: bool
) -> tuple[Tensor, Tensor]:
    return launch_table_gradient(q, k, grad_q, grad_k, cos, interleaved)


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
    dq, dk = _rotate_op(grad_q, grad_k, cos, sin, ctx.interleaved, not ctx.inverse)
    if not ctx.learned:
        return dq, dk, None, None, None, None
    dcos, dsin = _table_op(*qk, grad_q, grad_k, cos, ctx.interleaved)
    return dq, dk, dcos, -dsin if ctx.inverse else dsin, None, None


_rotate_op.register_autograd(_rotation_backward, setup_context=_save_rotation)


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
    tables = _broadcast(cos, q), _broadcast(sin, q)
    return launch_normed(q, k, matrix_q, matrix_k, *tables, eps, interleaved)


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
    tables = _broadcast(cos, q), _broadcast(sin, q)
    return launch_normed_gradient(
        q, k, grad_q, grad_k, matrix_q, matrix_k, *tables, eps, interleaved
    )


@_normed_backward_op.register_fake
def _(
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
    heads = q.shape[1] + k.shape[1]
    sums = matrix_q.new_empty(heads, *matrix_q.shape[1:])
    return q.new_empty(q.shape), k.new_empty(k.shape), sums


def _save_normed(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.eps, ctx.interleaved = inputs
    ctx.save_for_backward(*tensors)


def _normed_backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Tensor | None, ...]:
    q, k, *rest = ctx.saved_tensors
    dq, dk, sums = _normed_backward_op(q, k, grad_q, grad_k, *rest, ctx.eps, ctx.interleaved)
    return dq, dk, sums[: q.shape[1]], sums[q.shape[1] :], None, None, None, None


_normed_op.register_autograd(_normed_backward, setup_context=_save_normed)

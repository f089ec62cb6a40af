"""RMS norm, matrix and rotation of queries and keys in one launch, as operators of torch.

out = R G x / rms(x)        G = A diag(gamma) includes the weights of the norm
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harope.rope._fast.execution import without_autocast
from harope.rope._fast.triton.common import Keys, Queries, Table, with_four_axes
from harope.rope._fast.triton.fallback import FALLBACK
from harope.rope._fast.triton.qk_norm_kernels import (
    NormedInputs,
    launch_input_gradient,
    launch_matrix_gradient,
    launch_normed,
)
from harope.rope._fast.triton.rotate import rotate_op
from harope.rope._fast.triton.tiles import normed_tiles


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

    def launch() -> tuple[Tensor, Tensor]:
        inputs = NormedInputs.of(q, k, cos, sin, eps, interleaved)
        return launch_normed(inputs, matrix_q, matrix_k, normed_tiles(q).forward)

    def formula() -> tuple[Tensor, Tensor]:
        with without_autocast(q):
            mapped_q = _normalise(q, eps)[0] @ matrix_q.mT
            mapped_k = _normalise(k, eps)[0] @ matrix_k.mT
        out_q, out_k = rotate_op(mapped_q, mapped_k, cos, sin, interleaved, False)
        return out_q.to(q.dtype), out_k.to(k.dtype)

    return FALLBACK.run("normed_qk", q, launch, formula)


@_normed_op.register_fake
def _(q: Tensor, k: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


@torch.library.custom_op("harope::normed_qk_inputs", mutates_args=())
def _input_gradient_op(
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
) -> tuple[Tensor, Tensor]:
    """Return the gradients of queries and keys, contiguous."""

    def launch() -> tuple[Tensor, Tensor]:
        inputs = NormedInputs.of(q, k, cos, sin, eps, interleaved)
        tile = normed_tiles(q).input_gradient
        return launch_input_gradient(inputs, grad_q, grad_k, matrix_q, matrix_k, tile)

    def formula() -> tuple[Tensor, Tensor]:
        back_q, back_k = rotate_op(grad_q.float(), grad_k.float(), cos, sin, interleaved, True)
        return (
            _input_gradient(q, back_q, matrix_q, eps),
            _input_gradient(k, back_k, matrix_k, eps),
        )

    return FALLBACK.run("normed_qk_inputs", q, launch, formula)


@_input_gradient_op.register_fake
def _(q: Tensor, k: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


@torch.library.custom_op("harope::normed_qk_matrices", mutates_args=())
def _matrix_gradient_op(
    q: Tensor,
    k: Tensor,
    grad_q: Tensor,
    grad_k: Tensor,
    cos: Tensor,
    sin: Tensor,
    eps: float,
    interleaved: bool,
) -> Tensor:
    """Return the gradients of the matrices of all heads of queries, then of keys, in float32."""

    def launch() -> Tensor:
        inputs = NormedInputs.of(q, k, cos, sin, eps, interleaved)
        return launch_matrix_gradient(inputs, grad_q, grad_k, normed_tiles(q).matrix_gradient)

    def formula() -> Tensor:
        back = rotate_op(grad_q.float(), grad_k.float(), cos, sin, interleaved, True)
        with without_autocast(q):
            sums = [
                torch.einsum("bhni,bhnj->hij", grad, _normalise(x, eps)[0])
                for grad, x in zip(back, (q, k), strict=True)
            ]
        return torch.cat(sums)

    return FALLBACK.run("normed_qk_matrices", q, launch, formula)


@_matrix_gradient_op.register_fake
def _(q: Tensor, k: Tensor, *rest: Any) -> Tensor:
    head_dim = q.shape[-1]
    heads = q.shape[1] + k.shape[1]
    return q.new_empty((heads, head_dim, head_dim), dtype=torch.float32)


def _save_normed(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.eps, ctx.interleaved = inputs
    ctx.save_for_backward(*tensors)


def _normed_backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Tensor | None, ...]:
    q, k, matrix_q, matrix_k, *table = ctx.saved_tensors
    options = ctx.eps, ctx.interleaved
    dq = dk = matrices_q = matrices_k = None
    if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
        dq, dk = _input_gradient_op(q, k, grad_q, grad_k, matrix_q, matrix_k, *table, *options)
    # A basis that is not trained needs no sums.
    if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
        sums = _matrix_gradient_op(q, k, grad_q, grad_k, *table, *options)
        matrices_q, matrices_k = sums[: q.shape[1]], sums[q.shape[1] :]
    return dq, dk, matrices_q, matrices_k, None, None, None, None


_normed_op.register_autograd(_normed_backward, setup_context=_save_normed)


def _normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x / rms(x) and 1 / rms(x) in float32."""
    wide = x.float()
    scale = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return wide * scale, scale


def _input_gradient(x: Tensor, back: Tensor, matrix: Tensor, eps: float) -> Tensor:
    """Return the gradient of x from that of G x / rms(x), rotated back."""
    unit, scale = _normalise(x, eps)
    with without_autocast(x):
        of_unit = back @ matrix
    along = (unit * of_unit).mean(-1, keepdim=True)
    return (scale * (of_unit - unit * along)).to(x.dtype)

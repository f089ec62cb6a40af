"""The packed projection of queries, keys and values, with the bases in its weights."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from harope.rope.basis import MatrixPair
from harope.rope.folding import fold_projection
from harope.rope.rotate import runs_eagerly

Weight = Float[Tensor, "channels width"]
Bias = Float[Tensor, " channels"]


def fold_packed(
    weight: Weight, bias: Bias | None, matrices: MatrixPair, num_heads: int
) -> tuple[Weight, Bias | None]:
    """A_q and A_k in the first two thirds of a packed projection; values stay as they are.

    Args:
        weight: rows of queries, keys and values, head after head.
        bias: the same rows, or None.
        matrices: (A_q, A_k), per head or one for all.
        num_heads: of each third.
    """
    weights = weight.chunk(3)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    weight_q, bias_q = fold_projection(weights[0], biases[0], matrices[0], num_heads)
    weight_k, bias_k = fold_projection(weights[1], biases[1], matrices[1], num_heads)
    folded = torch.cat([weight_q, weight_k, weights[2]])
    if bias_q is None or bias_k is None or biases[2] is None:
        return folded, None
    return folded, torch.cat([bias_q, bias_k, biases[2]])


def folded_linear(
    x: Float[Tensor, "*batch width"],
    weight: Weight,
    bias: Bias,
    matrices: MatrixPair,
    num_heads: int,
) -> Float[Tensor, "*batch channels"]:
    """`F.linear` of the folded weights, which are made again in the backward pass, not kept."""
    if not (runs_eagerly() and torch.is_grad_enabled()):
        return F.linear(x, *fold_packed(weight, bias, matrices, num_heads))
    if torch.is_autocast_enabled(x.device.type):
        # As autocast does for F.linear, so that what is kept is the half as large copy.
        x = x.to(torch.get_autocast_dtype(x.device.type))
    return _FoldedLinear.apply(x, weight, bias, *matrices, num_heads)


class _FoldedLinear(torch.autograd.Function):
    """y = x W'^T + b' with W' = A W, b' = A b per head."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, a_q: Tensor, a_k: Tensor, heads: int
    ) -> Tensor:
        ctx.heads = heads
        ctx.save_for_backward(x, weight, bias, a_q, a_k)
        folded, shift = fold_packed(weight, bias, (a_q, a_k), heads)
        assert shift is not None
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, folded.to(x.dtype), shift.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, a_q, a_k = ctx.saved_tensors
        folded, _ = fold_packed(weight, None, (a_q, a_k), ctx.heads)
        flat = grad.flatten(0, -2)
        dx = (flat @ folded.to(grad.dtype)).view(x.shape) if ctx.needs_input_grad[0] else None
        dfolded, dshift = flat.mT @ x.flatten(0, -2), flat.sum(0)
        dq, da_q = _unfold(dfolded, dshift, weight, bias, a_q, 0, ctx.heads)
        dk, da_k = _unfold(dfolded, dshift, weight, bias, a_k, 1, ctx.heads)
        last = dfolded.chunk(3)[2].to(weight.dtype), dshift.chunk(3)[2].to(bias.dtype)
        dweight, dbias = (torch.cat(parts) for parts in zip(dq, dk, last, strict=True))
        return dx, dweight, dbias, da_q, da_k, None


def _unfold(
    dfolded: Tensor,
    dshift: Tensor,
    weight: Tensor,
    bias: Tensor,
    a: Tensor,
    third: int,
    heads: int,
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Gradients of W, b and A from those of A W and A b: A^T dW', A^T db', dW' W^T + db' b^T."""
    # Weight and bias side by side: one product serves both.
    parts = (part.chunk(3)[third].to(a.dtype) for part in (dfolded, dshift, weight, bias))
    dw, db, w, b = (part.unflatten(0, (heads, -1)) for part in parts)
    d, own = torch.cat([dw, db[..., None]], dim=-1), torch.cat([w, b[..., None]], dim=-1)
    back = (a.mT @ d).flatten(0, 1)
    da = (d @ own.mT).sum_to_size(a.shape)
    return (back[:, :-1].to(weight.dtype), back[:, -1].to(bias.dtype)), da

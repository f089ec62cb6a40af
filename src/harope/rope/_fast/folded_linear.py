"""The packed QKV projection with the basis folded into its weights on the fly."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from harope.rope._fast.execution import is_eager
from harope.rope.basis import MatrixPair, fold_projection

Weight = Float[Tensor, "channels width"]
Bias = Float[Tensor, " channels"]


def fold_packed(
    weight: Weight, bias: Bias | None, matrices: MatrixPair, num_heads: int
) -> tuple[Weight, Bias | None]:
    """Fold A_q and A_k into the first two thirds of a packed projection.

    Args:
        weight: Rows of queries, keys and values, head after head.
        bias: Likewise, or None.
        matrices: (A_q, A_k), each per head or one for all heads.
        num_heads: Heads of queries, which keys and values have as well.

    Returns:
        The folded weight and bias; rows of values are unchanged.
    """
    stacked = _stack(matrices, num_heads)
    rows = len(stacked) * stacked.shape[-1]
    folded, shift = fold_projection(weight[:rows], None if bias is None else bias[:rows], stacked)
    packed = torch.cat([folded, weight[rows:]])
    if bias is None or shift is None:
        return packed, None
    return packed, torch.cat([shift, bias[rows:]])


def cheaper_on_weights(num_tokens: int, width: int) -> bool:
    """Return whether folding A into the weights is cheaper than applying it to the tokens.

    The cost per channel is proportional to `width` in the first case and to `num_tokens` in the
    second.

    Args:
        num_tokens: Tokens of the whole batch.
        width: Channels of the tokens.
    """
    return num_tokens >= width


def folded_linear(
    x: Float[Tensor, "*batch width"],
    weight: Weight,
    bias: Bias,
    matrices: MatrixPair,
    num_heads: int,
) -> Float[Tensor, "*batch channels"]:
    """Compute `F.linear` of the folded weights, which are not saved for the backward pass.

    Args:
        x: Tokens.
        weight: Rows of queries, keys and values, head after head.
        bias: Likewise.
        matrices: (A_q, A_k), each per head or one for all heads.
        num_heads: Heads of queries, which keys and values have as well.
    """
    if not (is_eager() and torch.is_grad_enabled()):
        return F.linear(x, *fold_packed(weight, bias, matrices, num_heads))
    if torch.is_autocast_enabled(x.device.type):
        # As autocast does for F.linear: the copy that is saved is half as large.
        x = x.to(torch.get_autocast_dtype(x.device.type))
    return _FoldedLinear.apply(x, weight, bias, _stack(matrices, num_heads))


def _stack(matrices: MatrixPair, num_heads: int) -> Float[Tensor, "heads head_dim head_dim"]:
    """Stack the matrices of all query heads and all key heads in the order of the weight's rows."""
    return torch.cat([part.expand(num_heads, -1, -1) for part in matrices])


class _FoldedLinear(torch.autograd.Function):
    """y = x W'^T + b' with W' = A W, b' = A b per head of queries and keys.

    Gradients: A^T dW', A^T db' and, for A itself, dW' W^T + db' b^T.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stacked: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias, stacked)
        with torch.autocast(x.device.type, enabled=False):
            folded, shift = (_mapped(part, stacked).to(x.dtype) for part in (weight, bias))
            return F.linear(x, folded, shift)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, stacked = ctx.saved_tensors
        flat, dx = grad.flatten(0, -2), None
        if ctx.needs_input_grad[0]:
            dx = (flat @ _mapped(weight, stacked).to(grad.dtype)).view(x.shape)
        dfolded, dshift = (flat.mT @ x.flatten(0, -2)).to(weight.dtype), flat.sum(0).to(bias.dtype)
        d, w, db, b = (_split_heads(part, stacked) for part in (dfolded, weight, dshift, bias))
        dstacked = torch.baddbmm(db @ b.mT, d, w.mT).to(stacked.dtype)
        return dx, _mapped(dfolded, stacked.mT), _mapped(dshift, stacked.mT), dstacked


def _mapped(packed: Tensor, stacked: Tensor) -> Tensor:
    """Return a copy with A applied to the rows of queries and keys."""
    out, heads = packed.clone(), _split_heads(packed, stacked)
    mapped = stacked.to(heads.dtype) @ heads
    out[: mapped.shape[0] * mapped.shape[1]] = mapped.reshape(-1, *packed.shape[1:])
    return out


def _split_heads(packed: Tensor, stacked: Tensor) -> Float[Tensor, "heads head_dim columns"]:
    """Return the rows of queries and keys by head, in the wider dtype of both arguments."""
    count, head_dim, _ = stacked.shape
    wide = torch.promote_types(packed.dtype, stacked.dtype)
    return packed[: count * head_dim].reshape(count, head_dim, -1).to(wide)


def is_bare(linear: nn.Module, own_forward: Any = None) -> bool:
    """Return whether calling `linear` computes W x + b and nothing else, with a plain weight W.

    False for adapters, for layers with hooks or a replaced `forward`, and for quantized or
    distributed weights, whose rows cannot be multiplied by a matrix.

    Args:
        linear: Any module.
        own_forward: A replacement of `linear.forward` that is known to compute W x + b.
    """
    hooks = (
        linear._forward_hooks,
        linear._forward_pre_hooks,
        linear._backward_hooks,
        linear._backward_pre_hooks,
    )
    if not isinstance(linear, nn.Linear) or type(linear).forward is not nn.Linear.forward:
        return False
    if vars(linear).get("forward") is not own_forward or any(hooks):
        return False
    weight = linear.weight
    # A fake weight stands for a plain one, so that costs are counted of the code that would run.
    is_plain = type(weight) in (Tensor, nn.Parameter) or isinstance(weight, FakeTensor)
    return is_plain and weight.is_floating_point()

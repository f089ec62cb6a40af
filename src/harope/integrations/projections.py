"""A packed QKV projection that folds its attention's matrices into its weights on the fly."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from harope.integrations.base import Model
from harope.integrations.state import AttentionHook, hook_of
from harope.rope._fast.folded_linear import cheaper_on_weights, folded_linear, is_bare


@dataclass(eq=False)
class FoldedQKVForward:
    """Replacement of `forward` at the `qkv` Linear of timm's attentions.

    Computes W x + b, with A folded into W and b where that is cheaper than applying A to the
    tokens. The module stays a plain `nn.Linear`, so quantizers and adapters treat it as one; where
    they replace it or its weights, A is applied to the tokens.
    """

    hook: AttentionHook
    """The attention's hook."""
    linear: nn.Linear
    """The Linear whose forward this is."""
    detached: bool = False
    """Whether the encoding was removed; the forward is then the plain one."""

    def __call__(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens channels"]:
        linear = self.linear
        if self.detached or not folds_basis(self.hook.attention, x.shape[0] * x.shape[1]):
            return F.linear(x, linear.weight, linear.bias)
        matrices = self.hook.matrices()
        if matrices is None:
            return F.linear(x, linear.weight, linear.bias)
        heads = self.hook.encoding.num_heads
        return folded_linear(x, linear.weight, linear.bias, matrices, heads)


def folds_basis(attention: Model, num_tokens: int) -> bool:
    """Return whether the attention's `qkv` applies the matrices to a batch of so many tokens.

    False if QK-norm follows, or if an adapter wraps `qkv`: its output needs the matrices too.
    """
    forward = own_forward(attention.qkv)
    return (
        forward is not None
        and is_bare(attention.qkv, forward)
        and cheaper_on_weights(num_tokens, attention.qkv.in_features)
    )


def own_forward(linear: Model) -> FoldedQKVForward | None:
    """Return the replaced forward of a Linear, if it is one of ours."""
    forward = getattr(linear, "forward", None)
    return forward if isinstance(forward, FoldedQKVForward) else None


def attach_qkv(attention: Model) -> None:
    """Replace the forward of a bare packed projection, unless QK-norm follows it."""
    linear = attention.qkv
    if linear is None or not isinstance(attention.q_norm, nn.Identity):
        return
    if is_bare(linear) and linear.bias is not None:
        linear.forward = FoldedQKVForward(hook_of(attention), linear)


def detach_qkv(attention: Model) -> None:
    """Undo `attach_qkv`, also if other libraries have wrapped the Linear or its forward since."""
    for module in attention.modules():
        forwards = [vars(module).get("forward"), vars(module).get("_old_forward")]
        for forward in forwards:
            if isinstance(forward, FoldedQKVForward):
                forward.detached = True
        if own_forward(module) is not None:
            del module.forward

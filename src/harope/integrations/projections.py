"""A packed projection that takes its attention's matrices into its weights."""

from jaxtyping import Float
from torch import Tensor, nn

from harope.integrations.base import Model
from harope.integrations.state import SEAT, AttentionHook, hook_of
from harope.models.dit.attention import is_bare
from harope.rope._fast.folded_linear import cheaper_on_weights, folded_linear


class FoldedQKVForward(nn.Linear):
    """`qkv` of timm's attentions: W x + b, with A in its weights where that is less work.

    An instance's class is exchanged for this one and back, so that names of parameters stay.
    """

    def forward(
        self, x: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens channels"]:
        """Queries and keys are in the basis of their heads exactly where `meets_basis` says so."""
        seat: AttentionHook = hook_of(self)
        matrices = seat.matrices()
        if matrices is None or not meets_basis(seat.attention, x.shape[0] * x.shape[1]):
            return super().forward(x)
        return folded_linear(x, self.weight, self.bias, matrices, seat.encoding.num_heads)


def meets_basis(attention: Model, num_tokens: int) -> bool:
    """Whether the attention's projection applies the matrices, for so many tokens in the batch.

    Not where a norm follows, nor where an adapter has been put around it: what it adds must meet
    the matrices as well.
    """
    linear = attention.qkv
    return (
        type(linear) is FoldedQKVForward
        and is_bare(linear, FoldedQKVForward)
        and cheaper_on_weights(num_tokens, linear.in_features)
    )


def take_seat(attention: Model) -> None:
    """Let a packed projection know its attention's seat, if it is a plain Linear before no norm."""
    plain = type(attention.qkv) is nn.Linear and attention.qkv.bias is not None
    if plain and isinstance(attention.q_norm, nn.Identity):
        attention.qkv.__class__ = FoldedQKVForward
        setattr(attention.qkv, SEAT, hook_of(attention))


def leave_seat(attention: Model) -> None:
    """The reverse."""
    for linear in attention.modules():
        if type(linear) is FoldedQKVForward:
            delattr(linear, SEAT)
            object.__setattr__(linear, "__class__", nn.Linear)

"""What acts at one attention: access to its encoding, and the folding of A into its projection.

An integration applies A and the rotation wherever its library allows: in forward hooks on the
norms of queries and keys, in an attention processor, or, for A, in the weights of the projection.
All of them read the `AttentionHook` of the attention.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from harope.integrations.forward import ForwardTracker, Model, Positions, register_bounds
from harope.rope import (
    AnyRotationTable,
    PositionalEncoding,
    RotaryEncoding,
    apply_matrices,
    rotate_qk,
)
from harope.rope._fast.execution import is_eager
from harope.rope._fast.folded_linear import cheaper_on_weights, folded_linear, is_bare
from harope.rope.basis import MatrixPair
from harope.rope.rotate import Layout

Tokens = Float[Tensor, "batch heads tokens head_dim"]

ATTENTION_HOOK = "harope_hook"
"""Attribute of an attention: its AttentionHook."""


@dataclass(eq=False)
class AttentionHook:
    """Access of an attention to its encoding and to the state of the forward."""

    attention: Model
    """The attention module; its encoding is the submodule `harope`."""
    tracker: ForwardTracker
    """Finds the state of the forward."""
    index: int
    """Number of the layer."""
    _running: bool = field(default=False, init=False)
    _own_matrices: MatrixPair | None = field(default=None, init=False)

    def register(self, attention: nn.Module) -> list[RemovableHandle]:
        """Register the hooks that bound one forward of the attention.

        Matrices that the layer computes itself are computed once per forward of the attention,
        not once for every norm, and are dropped when it ends.

        Args:
            attention: The attention.

        Returns:
            Handles of the hooks.
        """
        return register_bounds(attention, self._enter, self._leave)

    def _enter(self, attention: nn.Module, args: tuple[Any, ...]) -> None:
        self._running = is_eager()

    def _leave(self, attention: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if is_eager():
            self._running, self._own_matrices = False, None

    @property
    def encoding(self) -> PositionalEncoding:
        """The encoding of the attention, without the wrappers that PEFT adds."""
        return self.attention.harope.unwrapped

    @property
    def layout(self) -> Layout:
        """The layout of the encoding: which channels form a pair."""
        encoding = self.encoding
        assert isinstance(encoding, RotaryEncoding)
        return encoding.layout

    def matrices(self) -> MatrixPair | None:
        """Return (A_q, A_k), each (heads or 1, head_dim, head_dim); None for the identity."""
        state = self.tracker.state
        shared = None if state is None else state.matrices(self.index)
        if shared is not None:
            return shared
        if not self._running:
            return self.encoding.matrices()
        if self._own_matrices is None:
            self._own_matrices = self.encoding.matrices()
        return self._own_matrices

    def table(self) -> AnyRotationTable | None:
        """Return the rotation table of the forward's positions.

        Returns:
            Cosines and sines of all tokens; None if the encoding does not rotate.

        Raises:
            ValueError: The positions are unknown.
        """
        encoding = self.encoding
        if isinstance(encoding, RotaryEncoding) and encoding.frequencies is None:
            return None
        state = self.tracker.state_for_attention()
        return state.table or encoding.rotation_table(state.positions)

    def table_of(self, positions: Positions | None) -> AnyRotationTable | None:
        """Return the rotation table for positions that the model passed to the attention.

        Args:
            positions: (tokens, axes) or (batch, tokens, axes); None if it passed none, for the
                forward's positions.

        Returns:
            Cosines and sines of these positions; None if the encoding does not rotate.

        Raises:
            ValueError: The positions are unknown.
        """
        if positions is None:
            return self.table()
        state = self.tracker.state
        if state is not None and state.table is not None and state.positions is positions:
            return state.table
        return self.encoding.rotation_table(positions)

    def apply_matrices(self, q: Tokens, k: Tokens) -> tuple[Tokens, Tokens]:
        """Apply the matrices, after QK-norm and before the rotation.

        Args:
            q: Queries.
            k: Keys.

        Returns:
            A_q q and A_k k, in the dtypes of q and k.
        """
        matrices = self.matrices()
        if matrices is None:
            return q, k
        return apply_matrices(q, matrices[0]), apply_matrices(k, matrices[1])

    def rotate(self, q: Tokens, k: Tokens, table: AnyRotationTable | None) -> tuple[Tokens, Tokens]:
        """Rotate queries and keys.

        Args:
            q: Queries.
            k: Keys.
            table: Cosines and sines of their tokens; None for no rotation.

        Returns:
            R q and R k.

        Raises:
            ValueError: The table is for other tokens.
        """
        if table is None:
            return q, k
        check_fit(table, q.shape[-2], q.shape[0])
        return rotate_qk(q, k, table, self.layout)


def hook_of(attention: Model) -> AttentionHook:
    """Return the hook by which an attention applies its encoding, see `AttentionHook`."""
    return getattr(attention, ATTENTION_HOOK)


def check_fit(table: AnyRotationTable, num_tokens: int, batch: int) -> None:
    """Check that a rotation table is for the tokens of an attention.

    Args:
        table: Cosines and sines, (tokens, pairs) with optional heads and batch before.
        num_tokens: Tokens of the attention.
        batch: Its batch size.

    Raises:
        ValueError: The number of tokens or samples differs.
    """
    cos = table[0]
    if cos.shape[-2] != num_tokens:
        raise ValueError(
            f"there are positions of {cos.shape[-2]} tokens, but the attention has "
            f"{num_tokens}: pass one row per token to harope.use_positions (class and register "
            f"tokens are added to them), or run the model without dropping tokens"
        )
    if cos.ndim == 4 and cos.shape[0] not in (1, batch):
        raise ValueError(
            f"there are positions of {cos.shape[0]} samples, but the batch has {batch}: "
            f"pass (tokens, axes) or one entry per sample to harope.use_positions"
        )


@dataclass(eq=False)
class FoldedQKVForward:
    """Replacement of `forward` at a packed QKV projection, the `qkv` Linear of timm's attentions.

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
    """Return whether the attention's `qkv` Linear applies the matrices.

    Args:
        attention: An attention with the attribute `qkv`.
        num_tokens: Tokens of the whole batch.

    Returns:
        False if few tokens make that more expensive, if QK-norm follows, or if `qkv` was replaced
        (by an adapter, whose output needs the matrices too), hooked or quantized.
    """
    forward = own_forward(attention.qkv)
    return (
        forward is not None
        and is_bare(attention.qkv, forward)
        and cheaper_on_weights(num_tokens, attention.qkv.in_features)
    )


def own_forward(linear: Model) -> FoldedQKVForward | None:
    """Return the `FoldedQKVForward` of a Linear, or None."""
    forward = getattr(linear, "forward", None)
    return forward if isinstance(forward, FoldedQKVForward) else None


def attach_qkv(attention: Model) -> None:
    """Replace the forward of a bare packed projection, unless QK-norm follows it.

    Args:
        attention: An attention of timm, with its `AttentionHook`.
    """
    linear = attention.qkv
    if linear is None or not isinstance(attention.q_norm, nn.Identity):
        return
    if is_bare(linear) and linear.bias is not None:
        linear.forward = FoldedQKVForward(hook_of(attention), linear)


def detach_qkv(attention: Model) -> None:
    """Undo `attach_qkv`, also if other libraries have wrapped the Linear or its forward since.

    Args:
        attention: The attention.
    """
    for module in attention.modules():
        forwards = [vars(module).get("forward"), vars(module).get("_old_forward")]
        for forward in forwards:
            if isinstance(forward, FoldedQKVForward):
                forward.detached = True
        if own_forward(module) is not None:
            del module.forward


@dataclass(frozen=True)
class Projection:
    """Rows of a Linear that produce queries or keys, head after head."""

    name: str
    """Path of the Linear in the attention."""
    linear: nn.Module
    """The Linear."""
    rows: slice
    """Its rows that produce these queries or keys."""
    bias: Tensor | None
    """Bias of these rows (a view), or None."""
    side: Literal[0, 1]
    """0: queries; 1: keys."""

    @property
    def weight(self) -> Tensor:
        """These rows of the weight, a view."""
        weight: Any = self.linear.weight
        return weight[self.rows]


def packed_projections(name: str, linear: nn.Linear) -> list[Projection]:
    """List the rows of queries and keys in a packed projection.

    Args:
        name: Path of the Linear in the attention.
        linear: Produces queries, keys and values in this order.

    Returns:
        The projection of queries, then that of keys.
    """
    third, bias = linear.out_features // 3, linear.bias
    q, k = slice(third), slice(third, 2 * third)
    return [
        Projection(name, linear, q, None if bias is None else bias[q], 0),
        Projection(name, linear, k, None if bias is None else bias[k], 1),
    ]

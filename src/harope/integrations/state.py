"""What an installed model carries: its encodings, and the state of the forward in progress.

Positions, rotation table and matrices belong to one forward. They are set when the model embeds its
input and cleared when its forward ends, also by an exception. Gradient checkpointing runs blocks
again during backward, after that; `ForwardTracker` finds the forward that such a block belongs to
by the storage of the tokens that enter it, which checkpointing keeps.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from harope.integrations.base import Integration, Layer, Model
from harope.rope import (
    PositionalEncoding,
    RotaryEncoding,
    RotationTable,
    apply_matrices,
    batched_matrices,
    grid_positions,
    rotate_qk,
)
from harope.rope._fast.execution import is_eager
from harope.rope.basis import MatrixPair
from harope.rope.rotate import Layout

Tokens = Float[Tensor, "batch heads tokens head_dim"]
Positions = Num[Tensor, "*batch tokens axes"]

# Attributes: a model has its InstallState, an attention its AttentionHook.
INSTALL_STATE, ATTENTION_HOOK = "harope_install_state", "harope_hook"


@dataclass(eq=False)
class ForwardState:
    """What the attentions share during one forward of the model."""

    positions: Positions
    """Positions of the tokens."""
    table: RotationTable | None
    """Their rotation table, if all layers have the same."""
    encodings: list[PositionalEncoding] = field(default_factory=list)
    """Encodings whose matrices are computed together; empty when a block is recomputed."""
    grad_enabled: bool = field(default_factory=torch.is_grad_enabled)
    """Whether the forward records gradients."""
    tensor_hooks: Any = field(default_factory=lambda: _saved_tensor_hooks())
    """Hooks on saved tensors when the forward began."""
    shared_matrices: list[MatrixPair | None] | None = None
    """Matrices of all layers; computed on first use."""

    def __post_init__(self) -> None:
        if torch.compiler.is_compiling():
            self.matrices(0)

    def matrices(self, index: int) -> MatrixPair | None:
        """Return the matrices of a layer from one exponential for all layers.

        None if the layer has to compute its own. Inside a checkpointed block it always has: a graph
        shared by several blocks would run backward more than once, and a recomputation would not
        repeat the operations of the forward.
        """
        if not self.encodings or self._in_checkpoint():
            return None
        if self.shared_matrices is None:
            self.shared_matrices = batched_matrices(self.encodings)
        return self.shared_matrices[index]

    def for_recomputation(self) -> "ForwardState":
        """Return the same positions and table, with matrices left to each layer."""
        return ForwardState(self.positions, self.table)

    def _in_checkpoint(self) -> bool:
        """Reentrant checkpointing disables gradients, the other kind hooks saved tensors."""
        if torch.compiler.is_compiling():
            return False
        changed = self.tensor_hooks != _saved_tensor_hooks()
        return changed or self.grad_enabled != torch.is_grad_enabled()


class ForwardTracker:
    """Finds the state of the forward that a block or an attention is called in.

    While the model's forward runs, that is its state. A block that is called later, during
    backward, is recomputed by gradient checkpointing: the storage of its input identifies its
    forward. A model that is run in parts (`forward_features`, or its blocks one by one) uses the
    positions of the latest embedded image until its last attention has run.
    """

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers
        self.in_forward = False
        self._current: ForwardState | None = None
        self._entered: list[ForwardState | None] = []
        self._last_layer = -1
        self._ambiguous = False
        self._by_storage: dict[StorageWeakRef, ForwardState] = {}
        self._recomputation: ForwardState | None = None

    @property
    def state(self) -> ForwardState | None:
        """State for the attention that runs now; None if its positions are unknown."""
        return self._entered[-1] if self._entered else self._current

    def open(self) -> None:
        """Begin a forward of the whole model."""
        self._reset()
        self.in_forward = True

    def close(self) -> None:
        """End it."""
        self._reset()
        self.in_forward = False

    def set(self, state: ForwardState) -> None:
        """Set the state of the forward that begins."""
        waiting, last_layer = self._current, self._last_layer
        self._reset()
        self._current = state
        if not self.in_forward and waiting is not None and last_layer < 0:
            # Two images were embedded before any attention ran: whose tokens come next?
            self._ambiguous = not _same(waiting.positions, state.positions)
        if not torch.compiler.is_compiling():
            known = {ref: old for ref, old in self._by_storage.items() if not ref.expired()}
            self._by_storage = known
        if torch.is_grad_enabled():
            self._recomputation = state.for_recomputation()

    def enter(self, index: int, tensors: list[Tensor]) -> None:
        """Find the state for a block or attention of layer `index`, given its inputs."""
        if self._entered:
            self._record(tensors, self._entered[-1])
            self._entered.append(self._entered[-1])
            return
        state = self._current if self.in_forward else self._lookup(tensors)
        if state is None and self._current is not None:
            if index <= self._last_layer and not self.in_forward:
                self._reset()  # The model was not run to its end: these are other tokens.
            elif self._ambiguous:
                raise ValueError(
                    "two images of different sizes were embedded before the blocks ran, so the "
                    "positions of these tokens are unknown: call the whole model, or run the "
                    "blocks inside `with harope.use_positions(model, positions):`"
                )
            state = self._current
        self._last_layer = max(self._last_layer, index)
        self._record(tensors, state)
        self._entered.append(state)

    def leave(self, index: int, tensors: list[Tensor]) -> None:
        """Leave what was entered; its outputs belong to the same forward."""
        if not self._entered:
            return
        state = self._entered.pop()
        self._record(tensors, state)
        if not self._entered and not self.in_forward and index == self.num_layers - 1:
            self._reset()

    def _reset(self) -> None:
        self._current, self._recomputation = None, None
        self._entered, self._last_layer, self._ambiguous = [], -1, False

    def _lookup(self, tensors: list[Tensor]) -> ForwardState | None:
        if self._by_storage:
            for tensor in tensors:
                reference = _storage_of(tensor)
                if reference is not None and reference in self._by_storage:
                    return self._by_storage[reference]
        return None

    def _record(self, tensors: list[Tensor], state: ForwardState | None) -> None:
        """Remember which forward tokens belong to, as long as something keeps them."""
        if state is None:
            return
        kept = self._recomputation if state is self._current else state
        if kept is None:
            return
        for tensor in tensors:
            reference = _storage_of(tensor)
            if reference is not None:
                self._by_storage[reference] = kept


@dataclass(eq=False)
class InstallState:
    """One encoding in one model."""

    integration: Integration
    """The model's family."""
    name: str
    """Name of the encoding's preset."""
    options: dict[str, Any]
    """Parts of the preset that are replaced."""
    keep_absolute: bool
    """Whether the model's own absolute embedding stays."""
    layers: list[Layer] = field(default_factory=list)
    """Attentions with an encoding."""
    originals: dict[str, Any] = field(default_factory=dict)
    """Parts of the model that were replaced."""
    handles: list[Any] = field(default_factory=list)
    """Module hooks."""
    adds_embedding: bool = False
    """Whether an absolute encoding was added (the embedder's `harope`)."""
    folded: bool = False
    """Whether weights of the model were changed by `harope.fold`."""
    given_positions: Positions | None = None
    """Positions from `harope.use_positions`."""
    tracker: ForwardTracker = field(default_factory=lambda: ForwardTracker(0))
    """State of the forward in progress."""

    @property
    def current(self) -> ForwardState | None:
        """State of the forward in progress, or None."""
        return self.tracker.state

    @property
    def uses_positions(self) -> bool:
        """Whether the encoding depends on positions."""
        return self.adds_embedding or any(
            isinstance(encoding, RotaryEncoding) and encoding.frequencies is not None
            for encoding in self.encodings()
        )

    def encodings(self) -> list[PositionalEncoding]:
        """List the encodings of the layers, in order."""
        return [layer.attention.harope.unwrapped for layer in self.layers]

    def on_forward(
        self,
        positions: Positions,
        *,
        num_prefix: int = 0,
        grid_key: tuple[Hashable, ...] | None = None,
    ) -> None:
        """Begin a forward.

        Args:
            positions: positions of the tokens; `harope.use_positions` overrides them.
            num_prefix: tokens before them (class and register tokens), which are not rotated.
            grid_key: identifies the positions if they are those of a grid, so that they and their
                rotation table are reused inside a `harope.cached` scope.

        Raises:
            ValueError: an attention no longer applies its encoding.
        """
        for layer in self.layers:
            self.integration.check_attached(layer)
        given, encodings = self.given_positions, self.encodings()
        if given is not None:
            positions, grid_key = given.to(positions.device), None
        compute = partial(with_prefix, positions, num_prefix)
        if grid_key is not None and encodings:
            positions = encodings[0].reuse(("positions", *grid_key, num_prefix), compute)
        else:
            positions = compute()
        self.tracker.set(self._begin(positions))

    def _begin(self, positions: Positions) -> ForwardState:
        encodings, table = self.encodings(), None
        if encodings and encodings[0].shares_table:
            table = encodings[0].rotation_table(positions)
        # Offloaded parameters are only present inside the forward of their own module.
        offloaded = any(part.is_meta for own in encodings for part in own.parameters())
        return ForwardState(positions, table, [] if offloaded else encodings)

    def state_for_attention(self) -> ForwardState:
        """Return the state for the attention that runs now.

        Raises:
            ValueError: its positions are unknown.
        """
        state = self.current
        if state is not None:
            return state
        if self.given_positions is not None:
            return ForwardState(self.given_positions, None)
        raise ValueError(
            "an attention with an encoding was called outside its model, so the positions of its "
            "tokens are unknown: call the whole model, or pass the positions by "
            "`with harope.use_positions(model, positions):`, around forward and backward if blocks "
            "are checkpointed"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Tensors of a forward, with their graph, are not part of a copy.
        fresh = {"tracker": ForwardTracker(len(self.layers)), "given_positions": None}
        return self.__dict__ | fresh


@dataclass(eq=False)
class EmbeddingHook:
    """Forward hook that adds the embedder's absolute encoding `harope` to the image tokens."""

    state: InstallState

    def __call__(self, embedder: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        positions = self.state.state_for_attention().positions
        grid = output.shape[1:-1]
        if positions.shape[-2] < grid.numel():
            raise ValueError(
                f"there are positions of {positions.shape[-2]} tokens, but the image has "
                f"{grid.numel()}: pass one row per token to harope.use_positions"
            )
        # Prefix tokens come first and get no embedding.
        embedding = embedder.harope.unwrapped.embed(positions[..., -grid.numel() :, :])
        return output + embedding.unflatten(-2, grid).to(output.dtype)


@dataclass(eq=False)
class AttentionHook:
    """Access of an attention to its encoding and to the state of the forward."""

    attention: Model
    """The attention."""
    install_state: InstallState
    """State of the whole model."""
    index: int
    """Number of the layer."""

    @property
    def encoding(self) -> PositionalEncoding:
        """The layer's encoding."""
        return self.attention.harope.unwrapped

    @property
    def layout(self) -> Layout:
        """Which channels form a pair."""
        encoding = self.encoding
        assert isinstance(encoding, RotaryEncoding)
        return encoding.layout

    def matrices(self) -> MatrixPair | None:
        """Return (A_q, A_k), each (heads or 1, head_dim, head_dim); None for the identity."""
        state = self.install_state.current
        shared = None if state is None else state.matrices(self.index)
        return shared or self.encoding.matrices()

    def table(self) -> RotationTable | None:
        """Return cosines and sines for the tokens; None if the encoding does not rotate."""
        encoding = self.encoding
        if isinstance(encoding, RotaryEncoding) and encoding.frequencies is None:
            return None
        state = self.install_state.state_for_attention()
        return state.table or encoding.rotation_table(state.positions)

    def table_of(self, positions: Positions) -> RotationTable | None:
        """Return the table for positions that the model handed to the attention."""
        state = self.install_state.current
        if state is not None and state.table is not None and state.positions is positions:
            return state.table
        return self.encoding.rotation_table(positions)

    def apply_matrices(self, q: Tokens, k: Tokens) -> tuple[Tokens, Tokens]:
        """Return A_q q and A_k k."""
        matrices = self.matrices()
        if matrices is None:
            return q, k
        return apply_matrices(q, matrices[0]), apply_matrices(k, matrices[1])

    def rotate(self, q: Tokens, k: Tokens, table: RotationTable | None) -> tuple[Tokens, Tokens]:
        """Return R q and R k; q and k without a table."""
        if table is None:
            return q, k
        check_fit(table, q.shape[-2], q.shape[0])
        return rotate_qk(q, k, table, self.layout)


@dataclass(eq=False)
class FrameHooks:
    """Hooks that bound the forward of the whole model."""

    state: InstallState

    def register(self, model: nn.Module) -> None:
        """Register them at the model."""
        before = model.register_forward_pre_hook(self.open)
        # Also after an exception.
        after = model.register_forward_hook(self.close, always_call=True)
        self.state.handles += [before, after]

    def open(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Begin a forward."""
        self.state.tracker.open()

    def close(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """End it."""
        self.state.tracker.close()


@dataclass(eq=False)
class LayerHooks:
    """Hooks that find the forward that a block or an attention belongs to."""

    state: InstallState
    index: int

    def register(self, module: nn.Module) -> None:
        """Register them at a block or an attention."""
        before = module.register_forward_pre_hook(self.enter, with_kwargs=True)
        after = module.register_forward_hook(self.leave, always_call=True)
        self.state.handles += [before, after]

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the module's forward."""
        if is_eager():
            self.state.tracker.enter(self.index, _tokens([*args, *kwargs.values()]))

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After the module's forward."""
        if is_eager():
            outputs = output if isinstance(output, tuple | list) else [output]
            self.state.tracker.leave(self.index, _tokens(outputs))


@contextmanager
def use_positions(model: nn.Module, positions: Tensor) -> Iterator[None]:
    """Use these positions instead of the model's grid, inside a `with` block.

    For crops (rows and columns of the whole image), for tokens that were dropped or packed, and for
    blocks or attentions that are called on their own.

    Args:
        model: a model that `harope.install` was called on, or a harope.DiT.
        positions: (tokens, axes) or (batch, tokens, axes), with columns (y, x) for images. One row
            per token, without class and register tokens; in FLUX for text and image tokens.

    Raises:
        ValueError: the positions are malformed or the encoding uses none; inside the block, if
            they do not fit the tokens.
    """
    from harope.integrations.registry import find_integration

    state = get_install_state(model)
    integration = state.integration if state is not None else find_integration(model)
    _check_positions(model, positions, integration, state)
    with integration.positions_given(model, positions, state):
        yield


@contextmanager
def given_positions(state: InstallState, positions: Positions) -> Iterator[None]:
    """Override the positions of an installed encoding."""
    before = state.given_positions
    state.given_positions = positions
    try:
        yield
    finally:
        state.given_positions = before


def _check_positions(
    model: nn.Module, positions: Any, integration: Integration, state: InstallState | None
) -> None:
    if state is None and not integration.computes_positions:
        raise ValueError(
            f"{type(model).__name__} has no encoding of harope: call harope.install first"
        )
    if state is not None and not integration.computes_positions and not state.uses_positions:
        raise ValueError(
            f"encoding {state.name!r} with options {state.options} uses no positions in this "
            f"model, so positions would have no effect: install it with frequencies of its own, "
            f"such as frequencies='axial'"
        )
    shape = tuple(getattr(positions, "shape", ()))
    if (
        not isinstance(positions, Tensor)
        or len(shape) not in (2, 3)
        or shape[-1] != integration.num_axes
    ):
        raise ValueError(
            f"positions must be a tensor (tokens, {integration.num_axes}) or (batch, tokens, "
            f"{integration.num_axes}) for {integration.title}, got the shape {shape}"
        )


def check_fit(table: RotationTable, num_tokens: int, batch: int) -> None:
    """Raise ValueError if a rotation table is for other tokens than the attention's."""
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


def grid(height: int, width: int, device: torch.device) -> Float[Tensor, "tokens 2"]:
    """Return the positions (y, x) of a grid of tokens, row by row."""
    # Tensors that are made in inference mode cannot be saved for backward.
    with torch.inference_mode(False):
        return grid_positions(height, width, device=device)


def with_prefix(positions: Positions, count: int) -> Num[Tensor, "*batch all_tokens axes"]:
    """Return the positions with `count` tokens at the origin before them."""
    if not count:
        return positions
    zeros = positions.new_zeros(*positions.shape[:-2], count, positions.shape[-1])
    return torch.cat([zeros, positions], dim=-2)


def get_install_state(model: nn.Module) -> InstallState | None:
    """Return the state of the model's installed encoding, or None."""
    return getattr(model, INSTALL_STATE, None)


def hook_of(attention: Model) -> AttentionHook:
    """Return the attention's hook."""
    return getattr(attention, ATTENTION_HOOK)


def _saved_tensor_hooks() -> Any:
    """Return the innermost hooks on saved tensors, which identify a checkpointed region."""
    if torch.compiler.is_compiling():
        return None
    return torch._C._autograd._top_saved_tensors_default_hooks(False)


def _storage_of(tensor: Tensor) -> StorageWeakRef | None:
    try:
        return StorageWeakRef(tensor.untyped_storage())
    except (NotImplementedError, RuntimeError):
        return None  # A subclass without a storage of its own.


def _tokens(values: Any) -> list[Tensor]:
    """Return those values that may be tokens, (batch, tokens, width)."""
    return [value for value in values if isinstance(value, Tensor) and value.ndim == 3]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)

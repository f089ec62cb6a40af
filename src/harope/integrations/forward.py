"""The state of one forward of a model: positions, rotation table and matrices.

It is set when the model embeds its input and cleared when its forward ends, also by an exception.
Gradient checkpointing runs blocks again during backward, after that. Where positions are arguments
of the blocks (diffusers), such a block gets them again. For other models `ForwardTracker` finds the
forward that the block belongs to by the storage of the tokens that enter it, which checkpointing
keeps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.hooks import RemovableHandle

from harope.rope import AnyRotationTable, PositionalEncoding, batched_matrices, grid_positions
from harope.rope._fast.execution import is_eager
from harope.rope.basis import MatrixPair

Positions = Num[Tensor, "*batch tokens axes"]

Model: TypeAlias = Any
"""A model of another library, or a part of it: its attributes are not typed."""


@dataclass(eq=False)
class ForwardState:
    """What the attentions share during one forward of the model."""

    positions: Positions
    """Positions of the tokens."""
    table: AnyRotationTable | None
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

        Args:
            index: Number of the layer.
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


def register_bounds(
    module: nn.Module,
    enter: Callable[[nn.Module, tuple[Any, ...]], None],
    leave: Callable[[nn.Module, tuple[Any, ...], Any], None],
) -> list[RemovableHandle]:
    """Register functions for the beginning and the end of every forward of a module.

    Args:
        module: The module.
        enter: Called with the module and its arguments before the forward.
        leave: Called with the module, its arguments and its output after the forward, and also if
            that raises an exception.

    Returns:
        Handles of the hooks.
    """
    return [
        module.register_forward_pre_hook(enter),
        module.register_forward_hook(leave, always_call=True),
    ]


class ForwardTracker:
    """Finds the state of the forward that a block or an attention is called in.

    While the model's forward runs, that is its state. A block that is called later, during
    backward, is recomputed by gradient checkpointing: the storage of its input identifies its
    forward. A model that is run in parts (`forward_features`, or its blocks one by one) uses the
    positions of the latest embedded image until its last attention has run.

    Args:
        num_layers: Attentions with an encoding.
    """

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers
        self.given_positions: Positions | None = None
        """Positions from `harope.use_positions`."""
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

    def state_for_attention(self) -> ForwardState:
        """Return the state for the attention that runs now.

        Raises:
            ValueError: Its positions are unknown.
        """
        if self.state is not None:
            return self.state
        if self.given_positions is not None:
            return ForwardState(self.given_positions, None)
        raise ValueError(
            "an attention with an encoding was called outside its model, so the positions of its "
            "tokens are unknown: call the whole model, or pass the positions by "
            "`with harope.use_positions(model, positions):`, around forward and backward if blocks "
            "are checkpointed"
        )

    @contextmanager
    def use_positions(self, positions: Positions) -> Iterator[None]:
        """Override the positions of the forwards inside a `with` block.

        Args:
            positions: (tokens, axes) or (batch, tokens, axes).
        """
        before = self.given_positions
        self.given_positions = positions
        try:
            yield
        finally:
            self.given_positions = before

    def register(self, model: nn.Module) -> list[RemovableHandle]:
        """Register the hooks that bound the forward of the whole model, also by an exception.

        Args:
            model: The model.

        Returns:
            Handles of the hooks.
        """
        return register_bounds(model, self._open, self._close)

    def _open(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        self._reset()
        self.in_forward = True

    def _close(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._reset()
        self.in_forward = False

    def set(self, state: ForwardState) -> None:
        """Set the state of the forward that begins.

        Args:
            state: Its state.
        """
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
        """Find the state for a block or attention.

        Args:
            index: Its layer.
            tensors: Its inputs that may be tokens.

        Raises:
            ValueError: Two images were embedded, and the tokens may be of either.
        """
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
        """Leave what was entered; its outputs belong to the same forward.

        Args:
            index: Its layer.
            tensors: Its outputs that may be tokens.
        """
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

    def __reduce__(self) -> tuple[type["ForwardTracker"], tuple[int]]:
        # Tensors of a forward, with their graph, are not part of a copy.
        return type(self), (self.num_layers,)


@dataclass(eq=False)
class LayerHooks:
    """Hooks that find the forward that a block or an attention belongs to."""

    tracker: ForwardTracker
    """Finds the state."""
    index: int
    """Number of the layer."""

    def register(self, module: nn.Module) -> list[RemovableHandle]:
        """Register the hooks at a block or an attention.

        Args:
            module: The block or attention.

        Returns:
            Handles of the hooks.
        """
        return [
            module.register_forward_pre_hook(self._enter, with_kwargs=True),
            module.register_forward_hook(self._leave, always_call=True),
        ]

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        refuse_symbolic(*args)
        if is_eager():
            self.tracker.enter(self.index, _tokens([*args, *kwargs.values()]))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if is_eager():
            outputs = output if isinstance(output, tuple | list) else [output]
            self.tracker.leave(self.index, _tokens(outputs))


@dataclass(eq=False)
class EmbeddingHook:
    """Forward hook that adds the embedder's absolute encoding `harope` to the image tokens."""

    tracker: ForwardTracker
    """Finds the state."""

    def __call__(self, embedder: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        positions = self.tracker.state_for_attention().positions
        grid = output.shape[1:-1]
        if positions.shape[-2] < grid.numel():
            raise ValueError(
                f"there are positions of {positions.shape[-2]} tokens, but the image has "
                f"{grid.numel()}: pass one row per token to harope.use_positions"
            )
        # Prefix tokens come first and get no embedding.
        embedding = embedder.harope.unwrapped.embed(positions[..., -grid.numel() :, :])
        return output + embedding.unflatten(-2, grid).to(output.dtype)


def refuse_symbolic(*values: Any) -> None:
    """Check that a forward is not traced symbolically, as by torchvision's feature extractors.

    Args:
        values: Arguments or results of a module in that forward.

    Raises:
        ValueError: One of them is a symbol without a shape, so that positions are unknown.
    """
    if any(isinstance(value, torch.fx.Proxy) for value in values):
        raise ValueError(
            "torch.fx cannot trace a model with an encoding, whose positions depend on the size of "
            "the input: get features by the model's forward_intermediates, export by torch.export, "
            "or call harope.remove first"
        )


def grid(height: int, width: int, device: torch.device) -> Float[Tensor, "tokens 2"]:
    """Compute the positions of a grid of tokens, also in inference mode.

    Args:
        height: Rows of tokens.
        width: Tokens in a row.
        device: Device of the positions.

    Returns:
        Positions (y, x), row by row, in float32.
    """
    # Tensors that are made in inference mode cannot be saved for backward.
    with torch.inference_mode(False):
        return grid_positions(height, width, device=device)


def with_prefix(positions: Positions, count: int) -> Num[Tensor, "*batch all_tokens axes"]:
    """Put tokens at the origin before others.

    Args:
        positions: Positions of the other tokens.
        count: Tokens at the origin, which are not rotated.

    Returns:
        The positions of all tokens.
    """
    if not count:
        return positions
    zeros = positions.new_zeros(*positions.shape[:-2], count, positions.shape[-1])
    return torch.cat([zeros, positions], dim=-2)


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

"""Interface that a model family implements so that `harope.install` supports it.

Four methods are required: `matches`, `layers`, `attach` and `register_position_hook`. The others
have defaults that suit a model without a rotation and without an absolute embedding. An object of
a new class is passed as `harope.install(model, name, integration=MyIntegration())`.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from jaxtyping import Num
from torch import Tensor, nn

from harope.integrations.attention import Projection
from harope.integrations.forward import (
    EmbeddingHook,
    ForwardState,
    ForwardTracker,
    Model,
    Positions,
    with_prefix,
)
from harope.rope import EncodingConfig, PositionalEncoding, RotaryEncoding

AbsoluteKind = Literal["sincos", "learned"]

INSTALL_STATE = "harope_install_state"
"""Attribute of a model: its InstallState."""


@dataclass(frozen=True)
class Layer:
    """An attention of a model that gets an encoding of its own."""

    name: str
    """Its path in the model."""
    attention: Model
    """The attention module; its encoding is the submodule `harope`."""
    num_heads: int
    """Attention heads."""
    head_dim: int
    """Channels per head."""


@dataclass(eq=False)
class InstallState:
    """What was installed in a model, and what is needed to remove it."""

    integration: "Integration"
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
    """Handles of the module hooks."""
    adds_embedding: bool = False
    """Whether an absolute encoding was added (the embedder's `harope`)."""
    folded: bool = False
    """Whether weights of the model were changed by `harope.fold`."""
    followed: tuple[Model, list[str], bool] | None = None
    """A LoRA layer, its active adapters and whether it was disabled, when the encodings were last
    made those of the active adapter (see `adapters.py`)."""
    tracker: ForwardTracker = field(default_factory=lambda: ForwardTracker(0))
    """Finds the state of the forward in progress."""

    @property
    def current(self) -> ForwardState | None:
        """State of the forward in progress, or None."""
        return self.tracker.state

    @property
    def uses_positions(self) -> bool:
        """Whether the encoding depends on positions."""
        return self.adds_embedding or self.rotates

    @property
    def rotates(self) -> bool:
        """Whether the encoding has a rotation of its own."""
        return any(
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
    ) -> Num[Tensor, "*all_batch all_tokens axes"]:
        """Begin a forward.

        Args:
            positions: Positions of the tokens; `harope.use_positions` overrides them.
            num_prefix: Tokens before them (class and register tokens), which are not rotated.
            grid_key: Identifies the positions if they are those of a grid, so that they and their
                rotation table are reused inside a `harope.cached` scope.

        Returns:
            The positions of all tokens in this forward.

        Raises:
            ValueError: An attention no longer applies its encoding.
        """
        for layer in self.layers:
            self.integration.check_attached(layer)
        given, encodings = self.tracker.given_positions, self.encodings()
        if given is not None:
            positions, grid_key = given.to(positions.device), None
        compute = partial(with_prefix, positions, num_prefix)
        if grid_key is not None and encodings:
            positions = encodings[0].reuse(("positions", *grid_key, num_prefix), compute)
        else:
            positions = compute()
        table = None
        if encodings and encodings[0].shares_table:
            table = encodings[0].rotation_table(positions)
        # Offloaded parameters are only present inside the forward of their own module.
        offloaded = any(part.is_meta for own in encodings for part in own.parameters())
        self.tracker.set(ForwardState(positions, table, [] if offloaded else encodings))
        return positions


class Integration(ABC):
    """Support for one model family.

    An encoding's matrices act behind QK-norm and before the rotation, on all tokens; only tokens
    with positions are rotated.
    """

    title: str
    """Name of the family in messages and files."""
    num_axes: int = 2
    """Numbers per position."""
    computes_positions: bool = False
    """Whether the model passes positions to its own encodings (harope's DiT)."""
    passes_positions: bool = False
    """Whether positions are arguments of the model's blocks, so that blocks that gradient
    checkpointing runs again get them again."""
    refused_methods: Mapping[str, str] = {
        # Called by torch.jit.script.
        "__prepare_scriptable__": "TorchScript cannot compile the hooks of an installed encoding: "
        "use torch.export or torch.compile, or call harope.fold or harope.remove first"
    }
    """Methods of the model that would go wrong with an encoding, and what to do instead."""

    # Required

    @abstractmethod
    def matches(self, model: Model) -> bool:
        """Return whether the model belongs to the family, without importing its library.

        Args:
            model: Any module.
        """

    @abstractmethod
    def layers(self, model: Model) -> list[Layer]:
        """List the attentions of the model that get an encoding.

        Args:
            model: A model of the family.

        Returns:
            All attentions, in the order of the model's forward.

        Raises:
            ValueError: A variant of the family is not supported.
        """

    @abstractmethod
    def attach(self, layer: Layer, state: InstallState) -> None:
        """Make an attention apply its encoding to queries and keys.

        Args:
            layer: The attention. Its `AttentionHook` (`hook_of(layer.attention)`) has the matrices
                and the rotation.
            state: Gets the handles of module hooks (`state.handles`).
        """

    @abstractmethod
    def register_position_hook(self, model: Model, state: InstallState) -> None:
        """Make every forward call `state.on_forward(positions)` before its first attention.

        Prefix and text tokens come first, at the origin.

        Args:
            model: A model of the family.
            state: Gets the handles of module hooks (`state.handles`).
        """

    # What the model has of its own

    def check(self, model: Model, config: EncodingConfig) -> None:
        """Check that the model can take an encoding, before anything is changed.

        Args:
            model: A model of the family.
            config: The encoding.

        Raises:
            ValueError: Something in the model conflicts with the encoding.
        """
        return

    def rotates(self, model: Model) -> bool:
        """Return whether the model has a rotary encoding of its own."""
        return False

    def keep_rotation_options(self, model: Model) -> dict[str, Any]:
        """Return the encoding options under which the model's own rotation stays unchanged."""
        return {"frequencies": "host"}

    def default_options(self, model: Model) -> dict[str, Any]:
        """Return defaults for axial frequencies that suit the model."""
        return {}

    def absolute(self, model: Model) -> AbsoluteKind | None:
        """Return the kind of the model's own absolute embedding, or None."""
        return None

    def projections(self, attention: Model) -> list[Projection]:
        """List the projections that A can be folded into.

        Args:
            attention: An attention of the family.

        Returns:
            Those of queries and keys; none if QK-norm follows them.
        """
        return []

    # Installing and removing

    def detach(self, layer: Layer, state: InstallState) -> None:
        """Undo `attach`.

        Args:
            layer: The attention.
            state: Has what `attach` saved; the caller removes the hooks of `state.handles`.
        """
        return

    def check_attached(self, layer: Layer) -> None:
        """Check that an attention still applies its encoding, at the start of every forward.

        Args:
            layer: The attention.

        Raises:
            ValueError: It does not, because something of it was replaced.
        """
        return

    def disable_rope(self, model: Model, state: InstallState) -> None:
        """Disable the model's own rotation and save it in `state.originals`.

        Required of families whose models rotate.

        Args:
            model: A model of the family.
            state: The state of the installation.
        """
        raise NotImplementedError(f"{type(self).__name__}.rotates needs disable_rope")

    def disable_pos_embed(self, model: Model, state: InstallState) -> None:
        """Disable the model's own absolute embedding and save it in `state.originals`.

        Required of families whose models have an absolute embedding.

        Args:
            model: A model of the family.
            state: The state of the installation.
        """
        raise NotImplementedError(f"{type(self).__name__}.absolute needs disable_pos_embed")

    def restore(self, model: Model, state: InstallState) -> None:
        """Undo `disable_rope` and `disable_pos_embed` by what is in `state.originals`."""
        return

    def finish_fold(self, model: Model, state: InstallState | None) -> None:
        """Update the model after its matrices were folded into the projections."""
        return

    def positions_given(
        self, model: Model, positions: Positions, state: InstallState | None
    ) -> AbstractContextManager[None]:
        """Return a context in which forwards use other positions (`harope.use_positions`).

        Args:
            model: A model of the family.
            positions: (tokens, axes) or (batch, tokens, axes).
            state: The state of the installation, if there was one.
        """
        assert state is not None
        return state.tracker.use_positions(positions)

    # Absolute encodings

    def embedder(self, model: Model) -> Model:
        """Return the module whose output, the image tokens, gets an absolute encoding added.

        Raises:
            ValueError: The family does not support absolute encodings.
        """
        raise ValueError(
            f"{self.title} does not support absolute embeddings: use a rotary encoding"
        )

    def add_embedding(
        self, model: Model, encoding: PositionalEncoding, state: InstallState
    ) -> None:
        """Add an absolute encoding to the output of the embedder.

        Args:
            model: A model of the family.
            encoding: The absolute encoding.
            state: Gets the handle of the hook.
        """
        embedder = self.embedder(model)
        embedder.harope = encoding
        # Registered after the position hook, which may belong to the same module.
        state.handles.append(embedder.register_forward_hook(EmbeddingHook(state.tracker)))

    def remove_embedding(self, model: Model, state: InstallState) -> None:
        """Undo `add_embedding`; the caller removes the hook."""
        delattr(self.embedder(model), "harope")

    def embedding_slot(self, model: Model) -> tuple[Model, str]:
        """Return where `add_embedding` put the encoding: a module and its attribute."""
        return self.embedder(model), "harope"


def get_install_state(model: nn.Module) -> InstallState | None:
    """Return the state of the model's installed encoding, or None."""
    return getattr(model, INSTALL_STATE, None)

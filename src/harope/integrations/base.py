"""Interface that a model family implements so that `harope.install` supports it.

Four methods are required: `matches`, `layers`, `attach` and `register_position_hook`. The others
have defaults that suit a model without a rotation and without an absolute embedding. An object of
a new class is passed as `harope.install(model, name, integration=MyIntegration())`.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torch import Tensor, nn

from harope.rope import EncodingConfig, PositionalEncoding

if TYPE_CHECKING:
    from harope.integrations.state import InstallState

AbsoluteKind = Literal["sincos", "learned"]

Model: TypeAlias = Any
"""A model of another library, or a part of it: its attributes are not typed."""


@dataclass(frozen=True)
class Layer:
    """One attention of a model."""

    name: str
    """Its path in the model."""
    attention: Model
    """The attention module; its encoding is the submodule `harope`."""
    num_heads: int
    """Attention heads."""
    head_dim: int
    """Channels per head."""


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
    """Whether the model hands positions to its own encodings (harope's DiT)."""

    # Required

    @abstractmethod
    def matches(self, model: Model) -> bool:
        """Return whether the model belongs to the family, without importing its library."""

    @abstractmethod
    def layers(self, model: Model) -> list[Layer]:
        """List all attentions of the model, in the order of its forward.

        Raises:
            ValueError: a variant of the family is not supported.
        """

    @abstractmethod
    def attach(self, layer: Layer, state: "InstallState") -> None:
        """Make the attention apply its encoding to queries and keys.

        The attention's `AttentionHook` (`hook_of(layer.attention)`) has the matrices and the
        rotation. Handles of module hooks belong into `state.handles`.
        """

    @abstractmethod
    def register_position_hook(self, model: Model, state: "InstallState") -> None:
        """Make every forward call `state.on_forward(positions)` before its first attention.

        Prefix and text tokens come first, at the origin. Handles belong into `state.handles`.
        """

    # What the model has of its own

    def check(self, model: Model, config: EncodingConfig) -> None:
        """Raise ValueError if something in the model conflicts with the encoding."""
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
        """List the projections that A folds into; empty behind QK-norm."""
        return []

    # Installing and removing

    def detach(self, layer: Layer, state: "InstallState") -> None:
        """Undo `attach`; hooks in `state.handles` are removed by the caller."""
        return

    def check_attached(self, layer: Layer) -> None:
        """Raise ValueError if the attention no longer applies its encoding."""
        return

    def disable_rope(self, model: Model, state: "InstallState") -> None:
        """Disable the model's own rotation and save it in `state.originals`."""
        raise NotImplementedError(f"{type(self).__name__}.rotates needs disable_rope")

    def disable_pos_embed(self, model: Model, state: "InstallState") -> None:
        """Disable the model's own absolute embedding and save it in `state.originals`."""
        raise NotImplementedError(f"{type(self).__name__}.absolute needs disable_pos_embed")

    def restore(self, model: Model, state: "InstallState") -> None:
        """Undo `disable_rope` and `disable_pos_embed`."""
        return

    def finish_fold(self, model: Model, state: "InstallState | None") -> None:
        """Update the model after its matrices were folded into the projections."""
        return

    def positions_given(
        self, model: Model, positions: Tensor, state: "InstallState | None"
    ) -> AbstractContextManager[None]:
        """Return a context in which forwards use these positions (`harope.use_positions`)."""
        from harope.integrations.state import given_positions

        assert state is not None
        return given_positions(state, positions)

    # Absolute encodings

    def embedder(self, model: Model) -> Model:
        """Return the module whose output, the image tokens, gets an absolute encoding added."""
        raise ValueError(
            f"{self.title} does not support absolute embeddings: use a rotary encoding"
        )

    def add_embedding(
        self, model: Model, encoding: PositionalEncoding, state: "InstallState"
    ) -> None:
        """Add an absolute encoding to the output of the embedder."""
        from harope.integrations.state import EmbeddingHook

        embedder = self.embedder(model)
        embedder.harope = encoding
        # Registered after the position hook, which may belong to the same module.
        state.handles.append(embedder.register_forward_hook(EmbeddingHook(state)))

    def remove_embedding(self, model: Model, state: "InstallState") -> None:
        """Undo `add_embedding`; hooks are removed by the caller."""
        delattr(self.embedder(model), "harope")

    def embedding(self, model: Model) -> PositionalEncoding:
        """Return the absolute encoding that `add_embedding` added."""
        return self.embedder(model).harope.unwrapped


def packed_projections(name: str, linear: nn.Linear) -> list[Projection]:
    """Queries and keys of a Linear that produces queries, keys and values in this order."""
    third, bias = linear.out_features // 3, linear.bias
    q, k = slice(third), slice(third, 2 * third)
    return [
        Projection(name, linear, q, None if bias is None else bias[q], 0),
        Projection(name, linear, k, None if bias is None else bias[k], 1),
    ]


def is_a(model: object, *names: str) -> bool:
    """Return whether the model's class is, or derives from, one of `module.Class`.

    The classes are compared by name, so that their libraries need not be imported.
    """
    own = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__}
    return not own.isdisjoint(names)

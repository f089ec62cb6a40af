"""What a family of models must say of itself to take an encoding.

Supporting another family is writing one more `Host`; `harope.install(model, name, host=...)` takes
it as it is.
"""

from abc import ABC, abstractmethod
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
    """Where the encoding comes to live, at `harope`."""
    num_heads: int
    head_dim: int


@dataclass(frozen=True)
class Projection:
    """Rows of a Linear that make queries or keys, head after head."""

    name: str
    """Path of the Linear in the attention."""
    linear: nn.Module
    weight: Tensor
    """Its rows, a view."""
    bias: Tensor | None
    side: Literal[0, 1]
    """0: queries; 1: keys."""


class Host(ABC):
    """How one family of models takes an encoding.

    An encoding's matrices stand after QK-norm and before the rotation, on all tokens; the rotation
    concerns the tokens that have positions.
    """

    title: str
    """What the family is called where the supported ones are listed."""
    num_axes = 2
    """Numbers per position."""

    @abstractmethod
    def matches(self, model: Model) -> bool:
        """Whether the model is one of the family; imports nothing."""

    @abstractmethod
    def check(self, model: Model, config: EncodingConfig) -> None:
        """Raise ValueError where the model holds something that the encoding conflicts with."""

    @abstractmethod
    def layers(self, model: Model) -> list[Layer]:
        """All its attentions. Raises ValueError for variants that cannot be served."""

    @abstractmethod
    def rotates(self, model: Model) -> bool:
        """Whether it has a rotary encoding of its own."""

    def kept_rotation(self, model: Model) -> dict[str, Any]:
        """Options of an encoding that leave the model's own rotation as it is."""
        return {"frequencies": "host"}

    def default_options(self, model: Model) -> dict[str, Any]:
        """Options of axial frequencies that suit the model, where none are given."""
        return {}

    @abstractmethod
    def absolute(self, model: Model) -> AbsoluteKind | None:
        """The kind of its own absolute embedding."""

    @abstractmethod
    def embedder(self, model: Model) -> Model:
        """The module that makes the image's tokens."""

    def add_embedding(
        self, model: Model, encoding: PositionalEncoding, installation: "InstallState"
    ) -> None:
        """Put an absolute encoding where the tokens are made, and add it to them."""
        from harope.integrations.state import EmbeddingHook

        embedder = self.embedder(model)
        embedder.harope = encoding
        # After the hook that tells the positions, which may be one of the same module.
        handle = embedder.register_forward_hook(EmbeddingHook(installation))
        installation.handles.append(handle)

    def remove_embedding(self, model: Model, installation: "InstallState") -> None:
        """The reverse; hooks are removed with all others."""
        delattr(self.embedder(model), "harope")

    def embedding(self, model: Model) -> PositionalEncoding:
        """The absolute encoding that was put in."""
        return self.embedder(model).harope.unwrapped

    @abstractmethod
    def watch(self, model: Model, installation: "InstallState") -> None:
        """Have every forward call `installation.begin(positions)` before its first layer.

        Text and other prefix tokens come first and stand at the origin. Handles of hooks go to
        `installation.handles`.
        """

    @abstractmethod
    def seat(self, layer: Layer, installation: "InstallState") -> None:
        """Have the attention pass its queries and keys through its seat."""

    @abstractmethod
    def detach(self, layer: Layer, installation: "InstallState") -> None:
        """The reverse of `seat`."""

    @abstractmethod
    def check_attached(self, layer: Layer) -> None:
        """Raise ValueError where something has since taken the place of the encoding."""

    @abstractmethod
    def disable_rope(self, model: Model, installation: "InstallState") -> None:
        """Switch the model's own rotation off, keeping it in `installation.originals`."""

    @abstractmethod
    def disable_pos_embed(self, model: Model, installation: "InstallState") -> None:
        """Switch the model's own absolute embedding off, likewise."""

    @abstractmethod
    def restore(self, model: Model, installation: "InstallState") -> None:
        """Undo both."""

    @abstractmethod
    def projections(self, attention: Model) -> list[Projection]:
        """What the matrices fold into; empty where a norm stands in between."""


def packed_projections(name: str, linear: nn.Linear) -> list[Projection]:
    """Queries and keys of a Linear that makes queries, keys and values in this order."""
    weights = linear.weight.chunk(3)
    biases = (None, None) if linear.bias is None else linear.bias.chunk(3)
    return [
        Projection(name, linear, weights[0], biases[0], 0),
        Projection(name, linear, weights[1], biases[1], 1),
    ]


def is_a(model: object, *names: str) -> bool:
    """Whether the model is of one of the classes `module.Class`, without importing them."""
    own = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__}
    return not own.isdisjoint(names)

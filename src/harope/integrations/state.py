"""What an installed model carries: which encoding, and where the tokens of a forward are."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope.integrations.base import Host, Layer, Model
from harope.rope import (
    PositionalEncoding,
    RotaryEncoding,
    RotationTable,
    apply_matrices,
    batched_matrices,
    grid_positions,
    rotate_qk,
)
from harope.rope.basis import MatrixPair
from harope.rope.rotate import Layout

Tokens = Float[Tensor, "batch heads tokens head_dim"]

# Where a model keeps its InstallState, and an attention its AttentionHook.
INSTALLATION, SEAT = "harope_installation", "harope_seat"


class Current(NamedTuple):
    """The forward at hand: what all layers share of it."""

    positions: Float[Tensor, "*batch tokens axes"]
    table: RotationTable | None
    matrices: list[MatrixPair | None]


@dataclass(eq=False)
class InstallState:
    """One encoding in one model."""

    host: Host
    name: str
    """The encoding's name."""
    options: dict[str, Any]
    """Parts of its preset that were replaced."""
    keep_absolute: bool
    """Whether the model's own absolute embedding stays."""
    layers: list[Layer] = field(default_factory=list)
    originals: dict[str, Any] = field(default_factory=dict)
    """What was taken out of the model."""
    handles: list[Any] = field(default_factory=list)
    """Hooks."""
    adds_embedding: bool = False
    """Whether an absolute embedding of ours lives at the embedder's `harope`."""
    folded: bool = False
    """Whether weights of the model have been changed."""
    current: Current | None = None

    def encodings(self) -> list[PositionalEncoding]:
        """Those of the layers, in order."""
        return [layer.attention.harope.unwrapped for layer in self.layers]

    def begin(self, positions: Float[Tensor, "*batch tokens axes"]) -> None:
        """Compute what all layers of a forward share: table, and matrices by one exponential."""
        encodings, table = self.encodings(), None
        for layer in self.layers:
            self.host.check_attached(layer)
        if encodings and encodings[0].shares_table:
            table = encodings[0].rotation_table(positions)
        self.current = Current(positions, table, batched_matrices(encodings))

    def grid(
        self, height: int, width: int, device: torch.device, *, prefix: int = 0
    ) -> Float[Tensor, "tokens 2"]:
        """Positions of `prefix` tokens at the origin, where nothing turns, and of a grid.

        Inside a `cached` scope always the same tensor, so that encodings find its table again.
        """

        def compute() -> Tensor:
            places = grid_positions(height, width, device=device)
            return torch.cat([places.new_zeros(prefix, 2), places])

        encodings = self.encodings()
        if not encodings:
            return compute()
        return encodings[0].reuse(("positions", height, width, device, prefix), compute)

    def __getstate__(self) -> dict[str, Any]:
        # A forward's own tensors, with their graph, are not part of a copy.
        return self.__dict__ | {"current": None}


@dataclass(eq=False)
class EmbeddingHook:
    """Forward hook of a model's embedder, whose `harope` is the absolute encoding to add."""

    installation: InstallState

    def __call__(self, embedder: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The tokens with their embedding."""
        assert self.installation.current is not None
        tokens = output.shape[1:-1]
        # Prefix tokens come first and get none.
        positions = self.installation.current.positions[-tokens.numel() :]
        embedding = embedder.harope.unwrapped.embed(positions)
        return output + embedding.view(*tokens, -1).to(output.dtype)


@dataclass(eq=False)
class AttentionHook:
    """Where an attention finds its encoding, and what the forward at hand has computed for it."""

    attention: Model
    installation: InstallState
    index: int

    @property
    def encoding(self) -> PositionalEncoding:
        """The layer's own."""
        return self.attention.harope.unwrapped

    def matrices(self) -> MatrixPair | None:
        """(A_q, A_k), from the exponential of all layers where there was one."""
        current = self.installation.current
        shared = current.matrices[self.index] if current is not None else None
        return shared or self.encoding.matrices()

    def table(self) -> RotationTable | None:
        """Cosines and sines of the tokens' positions; None where the model itself rotates."""
        current = self.installation.current
        if current is None:
            raise ValueError(
                "an attention with an encoding was called outside its model: positions are known "
                "only while the whole model runs"
            )
        return current.table or self.encoding.rotation_table(current.positions)

    @property
    def layout(self) -> Layout:
        """Which channels form a pair."""
        encoding = self.encoding
        assert isinstance(encoding, RotaryEncoding)
        return encoding.layout

    def map(self, q: Tokens, k: Tokens) -> tuple[Tokens, Tokens]:
        """A_q q and A_k k."""
        matrices = self.matrices()
        if matrices is None:
            return q, k
        return apply_matrices(q, matrices[0]), apply_matrices(k, matrices[1])

    def rotate(self, q: Tokens, k: Tokens, table: RotationTable | None) -> tuple[Tokens, Tokens]:
        """R q and R k; as they are without a table."""
        return (q, k) if table is None else rotate_qk(q, k, table, self.layout)


def get_install_state(model: nn.Module) -> InstallState | None:
    """What is installed in the model, if anything is."""
    return getattr(model, INSTALLATION, None)


def hook_of(attention: Model) -> AttentionHook:
    """The attention's seat."""
    return getattr(attention, SEAT)

"""Which networks made a score, said beside it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelInfo:
    """A network that takes part in a score."""

    folder: str
    """Name of its folder."""
    kind: str
    """Its class."""
    weights: str
    """A digest of them."""
    stands_for: str
    """What the official stack has in its place."""
    prompt: str | None = None
    """What it is told besides the question, where it is."""

    def __str__(self) -> str:
        return f"{self.folder} ({self.kind}, weights {self.weights})"

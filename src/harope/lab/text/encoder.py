"""What a text encoder gives a text-to-image model: states by token, and one vector."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor


# A named tuple, because data loaders pin and collate those as they are.
class TextEmbeddings(NamedTuple):
    """A batch of encoded captions."""

    states: Float32[Tensor, "batch length channels"]
    """One vector per token."""
    pooled: Float32[Tensor, "batch pooled_channels"]
    """One vector per caption."""
    mask: Bool[Tensor, "batch length"]
    """True where attention looks at the token: everywhere for FLUX and SD3, which were trained to
    look at their padding too."""

    def to(self, device: torch.device | str) -> "TextEmbeddings":
        """The same on another device."""
        return TextEmbeddings(*(tensor.to(device) for tensor in self))


class TextEncoder(ABC):
    """Turns captions into states of a fixed length. The empty caption stands for no caption."""

    length: int
    """Tokens of every caption, padding included."""
    channels: int
    """Of a token's state."""
    pooled_channels: int
    """Of the pooled vector."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values for JSON that differ wherever the states of a caption would."""

    @abstractmethod
    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        """States of the captions, on the encoder's device, without gradient."""


def masked_mean(
    states: Float[Tensor, "batch length channels"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch channels"]:
    """Mean of the states where ``mask`` is true, which is somewhere in every caption."""
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def digest(*parts: bytes) -> str:
    """A short fingerprint of bytes."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "big") + part)
    return sha.hexdigest()[:32]

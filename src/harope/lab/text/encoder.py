"""Interface of text encoders: embeddings of each token and of the whole caption."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """Base of the configs of text encoders."""

    kind: str
    """Value that distinguishes this config from others."""
    length: int
    """Number of tokens, to which captions are padded or truncated."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length must be at least 1, got {self.length}")


# A named tuple, because torch's data loaders can pin and move it.
class TextEmbeddings(NamedTuple):
    """Text embeddings of a batch of captions."""

    states: Float32[Tensor, "batch length channels"]
    """Token embeddings: the encoder's hidden states."""
    pooled: Float32[Tensor, "batch pooled_channels"]
    """Caption embeddings."""
    mask: Bool[Tensor, "batch length"]
    """True for tokens that take part in attention; for FLUX and SD3, which were trained without
    masks, this includes padding."""

    def to(self, device: torch.device | str) -> "TextEmbeddings":
        """Copy the embeddings to another device.

        Args:
            device: The device.

        Returns:
            The copies, or the tensors themselves if they are there already.
        """
        return TextEmbeddings(*(tensor.to(device) for tensor in self))


class TextEncoder(ABC):
    """Encoder of captions to a fixed number of tokens.

    The empty caption is the unconditional input of classifier-free guidance.
    """

    length: int
    """Number of tokens of every caption, including padding."""
    channels: int
    """Channels of the token embeddings."""
    pooled_channels: int
    """Channels of the caption embeddings."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON values that differ between any two encoders whose embeddings differ."""

    @abstractmethod
    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions, on the encoder's device and without gradients.

        Args:
            captions: Captions, of which the encoder may cut what exceeds `length` tokens.

        Returns:
            The embeddings, float32.

        Raises:
            ValueError: If the encoder cannot encode a caption.
        """


def masked_mean(
    states: Float[Tensor, "batch length channels"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch channels"]:
    """Average the token embeddings of each caption.

    Args:
        states: Token embeddings.
        mask: True for the tokens to average, at least one of each caption.

    Returns:
        Caption embeddings.
    """
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)

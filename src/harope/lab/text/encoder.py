"""Interface of text encoders: embeddings of each token and of the whole caption."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from harope._utils.json_files import shorten

DEFAULT_MAX_TRUNCATED = 0.1
"""Fraction of the captions that may be cut unless a config says otherwise."""
_TOKENIZED_AT_ONCE = 1024


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

    def truncated(self, captions: Sequence[str]) -> list[str]:
        """Return the captions that have more tokens than `length`, so that their ends are cut off.

        Args:
            captions: Captions to tokenize.

        Returns:
            Some of the captions; none if the encoder refuses long ones or has no limit.
        """
        return []

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


class TruncationWarning(UserWarning):
    """Some captions have more tokens than the text encoder reads."""


def check_truncation(
    encoder: TextEncoder,
    captions: Sequence[str],
    max_truncated: float | None = DEFAULT_MAX_TRUNCATED,
) -> None:
    """Warn about captions whose ends the encoder cuts off, if there are any.

    Args:
        encoder: Text encoder.
        captions: Captions to tokenize.
        max_truncated: Largest fraction of the captions that may be cut; None to cut any without
            counting them.

    Raises:
        ValueError: If more captions are cut.
    """
    if max_truncated is None:
        return
    slices = range(0, len(captions), _TOKENIZED_AT_ONCE)
    cut = [
        caption
        for first in slices
        for caption in encoder.truncated(captions[first : first + _TOKENIZED_AT_ONCE])
    ]
    if not cut:
        return
    text = (
        f"{len(cut)} of {len(captions)} captions have more tokens than the text encoder reads, "
        f"and are cut; the first: {shorten(cut[0])}"
    )
    if len(cut) > max_truncated * len(captions):
        raise ValueError(
            f"{text}; this is more than max_truncated {max_truncated}: raise the encoder's length, "
            f"shorten the captions or raise max_truncated"
        )
    warnings.warn(text, TruncationWarning, stacklevel=3)


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

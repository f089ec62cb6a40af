"""Text encoder without weights for a small fixed vocabulary, such as that of the scenes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.digests import bytes_digest
from harope.lab.scenes.grammar import WORDS
from harope.lab.text.encoder import (
    TextEmbeddings,
    TextEncoder,
    TextEncoderConfig,
    masked_mean,
)

_BEGIN = "<begin>"
# Base of the sinusoids: smaller than the usual 10,000, as captions are short.
_BASE = 100.0


@dataclass(frozen=True, kw_only=True)
class ToyVocabularyConfig(TextEncoderConfig):
    """Fixed vectors for the words of the scenes' captions, with nothing to load."""

    kind: Literal["closed-vocabulary"] = "closed-vocabulary"
    channels: int = 128
    """Channels of a word's vector, a multiple of 8."""
    length: int = 12
    """Number of tokens: one more than the words of the longest caption."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels < 8 or self.channels % 8:
            raise ValueError(f"channels must be a positive multiple of 8, got {self.channels}")


class ToyVocabularyEncoder(TextEncoder):
    """Encoder that maps each word to a fixed vector of signs plus a position embedding.

    The signs are a hash of the word's spelling, so that the cosine between two words is zero with a
    standard deviation of 1 / sqrt(channels). A begin token precedes every caption, so that the
    empty caption has an embedding too. The caption embedding is the mean of the tokens without
    padding. `encode` raises ValueError for unknown words and captions that are too long.

    Args:
        channels: Channels of a word's vector, a multiple of 8.
        length: Number of tokens: one more than the words of the longest caption.
        words: Vocabulary.

    Raises:
        ValueError: If `channels` or `length` is invalid.
    """

    def __init__(self, channels: int = 128, length: int = 12, words: Sequence[str] = WORDS):
        config = ToyVocabularyConfig(channels=channels, length=length)
        self.length, self.channels, self.pooled_channels = length, channels, channels
        self._rows = {word: row for row, word in enumerate((_BEGIN, *words))}
        vectors = np.stack([_signs(word, channels) for word in self._rows])
        self._vectors = torch.from_numpy(vectors)
        self._positions = _sinusoids(config.length, channels)

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "encoder": "closed-vocabulary",
            "channels": self.channels,
            "length": self.length,
            "words": bytes_digest(*(word.encode() for word in self._rows)),
        }

    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        ids = torch.full((len(captions), self.length), -1)
        for row, caption in enumerate(captions):
            words = self._ids(caption)
            ids[row, : len(words)] = torch.tensor(words)
        mask = ids >= 0
        states = (self._vectors[ids.clamp(min=0)] + self._positions) * mask[..., None]
        return TextEmbeddings(states, masked_mean(states, mask), mask)

    def _ids(self, caption: str) -> list[int]:
        words = [_BEGIN, *caption.split()]
        unknown = [word for word in words if word not in self._rows]
        if unknown:
            raise ValueError(
                f"word {unknown[0]!r} of caption {caption!r} is not in the vocabulary: "
                f"use {', '.join(list(self._rows)[1:])}"
            )
        if len(words) > self.length:
            raise ValueError(
                f"caption {caption!r} has {len(words) - 1} words but length {self.length} allows "
                f"{self.length - 1}: raise length"
            )
        return [self._rows[word] for word in words]


def _signs(word: str, channels: int) -> np.ndarray:
    """Return the bits of a word's SHAKE-256 hash (FIPS 202) as -1 and 1, float32 (channels,)."""
    bits = hashlib.shake_256(word.encode()).digest(channels // 8)
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8)).astype(np.float32) * 2 - 1


def _sinusoids(length: int, channels: int) -> Float32[Tensor, "{length} {channels}"]:
    """Return the sinusoidal position embedding of Vaswani et al. (2017)."""
    rates = _BASE ** -(torch.arange(channels // 2, dtype=torch.float64) / (channels // 2))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()

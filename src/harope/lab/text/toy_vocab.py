"""A text encoder without weights, for captions of few known words such as those of the scenes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope.lab.scenes.grammar import WORDS
from harope.lab.text.encoder import TextEmbeddings, TextEncoder, digest, masked_mean

_BEGIN = "<begin>"
_BASE = 100.0


@dataclass(frozen=True, kw_only=True)
class ToyVocabularyConfig:
    """Fixed vectors for the words of the scenes' captions: nothing to load."""

    kind: Literal["closed-vocabulary"] = "closed-vocabulary"
    channels: int = 128
    """Of a word's vector, a multiple of 8."""
    length: int = 12
    """Words of the longest caption, and one."""

    def __post_init__(self) -> None:
        if self.channels < 8 or self.channels % 8:
            raise ValueError(f"channels {self.channels} must be a positive multiple of 8")
        if self.length < 1:
            raise ValueError(f"length {self.length} must be at least 1")


class ToyVocabularyEncoder(TextEncoder):
    """Words are fixed vectors of signs, which their spelling decides, plus their position.

    Signs of other words agree by chance alone: cosines of about 1 / sqrt(channels). Every caption
    begins with one token more, so that the empty caption has a state too. ``pooled`` is the mean
    of the states that are not padding. Raises ValueError naming a word that is not known.
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
        """Sizes, and a fingerprint of the words."""
        return {
            "encoder": "closed-vocabulary",
            "channels": self.channels,
            "length": self.length,
            "words": digest(*(word.encode() for word in self._rows)),
        }

    def encode(self, captions: Sequence[str]) -> TextEmbeddings:
        """States (batch, length, channels) on the CPU. ValueError for an unknown word."""
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
                f"word {unknown[0]!r} of caption {caption!r} is not known: "
                f"use {', '.join(list(self._rows)[1:])}"
            )
        if len(words) > self.length:
            raise ValueError(
                f"caption {caption!r} has {len(words) - 1} words but length {self.length} has "
                f"room for {self.length - 1}: raise it"
            )
        return [self._rows[word] for word in words]


def _signs(word: str, channels: int) -> np.ndarray:
    """-1 and 1 by the bits of SHAKE-256 (FIPS 202) of the word: float32 (channels,)."""
    bits = hashlib.shake_256(word.encode()).digest(channels // 8)
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8)).astype(np.float32) * 2 - 1


def _sinusoids(length: int, channels: int) -> Float32[Tensor, "{length} {channels}"]:
    """Sines and cosines of the position (Vaswani et al. 2017), with a base for short captions."""
    rates = _BASE ** -(torch.arange(channels // 2, dtype=torch.float64) / (channels // 2))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()

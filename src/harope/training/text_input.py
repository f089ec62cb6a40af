"""Captions of a text-to-image training: as states of a text encoder, or on their way to one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from accelerate import PartialState
from jaxtyping import UInt8
from torch import Tensor

from harope.data.captioned import CaptionedSource, FiniteCaptionedSource, distinct_captions
from harope.data.source import Stream
from harope.text import (
    CachedStates,
    ClosedVocabularyConfig,
    TextConfig,
    TextStates,
    fill_cache,
    open_text_encoder,
)
from harope.training.task import TensorBatch

CACHE_FOLDER = "text-states"
ReadStates = Callable[[Sequence[str]], TextStates]


@dataclass(frozen=True, kw_only=True)
class StatesConfig:
    """When a text encoder that has weights is run. A closed vocabulary is looked up as it goes."""

    when: Literal["cached", "each-step"] = "cached"
    """Once for every caption, into files; or in every step, on the training's device, where the
    files would be too large: SD3's 333 states of a caption are 2.7 MB in half precision."""
    folder: str | None = None
    """Of the files, which trainings may share; None for `text-states` in the run's folder."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the states in the files."""
    encoder_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the encoder's weights."""


class OpenText(NamedTuple):
    """A text encoder or its files."""

    read: ReadStates
    by_workers: bool
    """Whether the processes that read data can also read states."""


class StatesStream(Stream[TensorBatch]):
    """Images, and states (batch, length, channels) and pooled (batch, channels) of captions."""

    def __init__(self, source: CaptionedSource, read: ReadStates) -> None:
        self.shape = source.shape
        self._source, self._read = source, read

    def draw(self, numbers: Sequence[int]) -> TensorBatch:
        """The draws of these numbers."""
        images, captions = self._source.draw(numbers)
        states = self._read(captions)
        return images, states.states, states.pooled


class CaptionsStream(Stream[TensorBatch]):
    """Images, and captions as bytes (batch, longest): a training loop moves tensors alone."""

    def __init__(self, source: CaptionedSource) -> None:
        self.shape = source.shape
        self._source = source

    def draw(self, numbers: Sequence[int]) -> TensorBatch:
        """The draws of these numbers."""
        images, captions = self._source.draw(numbers)
        return images, pack(captions)


def pack(captions: Sequence[str]) -> UInt8[Tensor, "batch longest"]:
    """UTF-8, filled up with zeros."""
    texts = [caption.encode() for caption in captions]
    longest = max(len(text) for text in texts)
    return torch.stack(
        [torch.tensor([*text.ljust(longest, b"\0")], dtype=torch.uint8) for text in texts]
    )


def unpack(packed: UInt8[Tensor, "batch longest"]) -> list[str]:
    """The reverse of pack."""
    return [bytes(row).rstrip(b"\0").decode() for row in packed.tolist()]


def open_text(
    text: TextConfig,
    config: StatesConfig,
    source: CaptionedSource,
    others: Sequence[str],
    run: Path,
    device: torch.device,
) -> OpenText:
    """What reads the states of the source's captions and of `others`.

    A cache is filled by the main process; the others must come after it. Raises ValueError where
    captions without end shall be cached.
    """
    if isinstance(text, ClosedVocabularyConfig):
        return OpenText(open_text_encoder(text).encode, by_workers=True)
    dtype = getattr(torch, config.encoder_dtype)
    if config.when == "each-step":
        return OpenText(open_text_encoder(text, device, dtype).encode, by_workers=False)
    if not isinstance(source, FiniteCaptionedSource):
        raise ValueError(
            f"states.when 'cached' keeps every caption's states but the data has no end: set "
            f"--states.when each-step, or --text.kind {ClosedVocabularyConfig.kind}"
        )
    folder = run / CACHE_FOLDER if config.folder is None else Path(config.folder)
    if PartialState().is_main_process:
        captions = [*others, *distinct_captions(source)]
        encoder = open_text_encoder(text, device, dtype)
        fill_cache(folder, encoder, captions, dtype=config.dtype)
    return OpenText(CachedStates(folder).read, by_workers=True)

"""Captions of a text-to-image training: as states of a text encoder, or on their way to one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope.lab.data.captioned.base import (
    CaptionedDataset,
    FiniteCaptionedDataset,
    distinct_captions,
)
from harope.lab.data.dataset import Dataset
from harope.lab.text import TextConfig, TextEncoder, ToyVocabularyConfig, open_text_encoder
from harope.lab.training.task import TensorBatch
from harope.lab.training.tasks.caption_embeddings import EncodedCaptions, ReadStates, open_states


@dataclass(frozen=True, kw_only=True)
class StatesConfig:
    """When a text encoder that has weights is run. A closed vocabulary is looked up as it goes."""

    when: Literal["cached", "each-step"] = "cached"
    """Once for every caption, into files; or in every step, on the training's device, where the
    files would be too large: SD3's 333 states of a caption are 2.7 MB in half precision."""
    folder: str = "data/text-states"
    """Of the files, which trainings may share."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the states in the files."""
    encoder_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the encoder's weights."""


class TextInput(NamedTuple):
    """What a training reads, and how it reads other captions."""

    stream: Dataset[TensorBatch]
    """Images, then states and pooled vectors; or images, then captions as bytes."""
    read: ReadStates
    """States of captions: any, or those that were cached."""


class WrittenCaptions(Dataset[TensorBatch]):
    """Images, and captions as bytes (batch, longest): a training loop moves tensors alone."""

    def __init__(self, source: CaptionedDataset) -> None:
        self.shape = source.shape
        self._source = source

    def samples(self, numbers: Sequence[int]) -> TensorBatch:
        """The draws of these numbers."""
        images, captions = self._source.samples(numbers)
        return images, pack_captions(captions)


def pack_captions(captions: Sequence[str]) -> UInt8[Tensor, "batch longest"]:
    """UTF-8, filled up with zeros."""
    texts = [caption.encode() for caption in captions]
    longest = max(len(text) for text in texts)
    return torch.stack(
        [torch.tensor([*text.ljust(longest, b"\0")], dtype=torch.uint8) for text in texts]
    )


def unpack_captions(packed: UInt8[Tensor, "batch longest"]) -> list[str]:
    """The reverse of pack_captions."""
    return [bytes(row).rstrip(b"\0").decode() for row in packed.tolist()]


def open_text_input(
    text: TextConfig,
    config: StatesConfig,
    source: CaptionedDataset,
    others: Sequence[str],
    device: torch.device,
) -> TextInput:
    """The states of the source's captions and of `others`, or what makes them in every step.

    Raises ValueError where captions without end shall be cached, OSError where the encoder is not
    found.
    """

    def load() -> TextEncoder:
        return open_text_encoder(text, device, getattr(torch, config.encoder_dtype))

    if isinstance(text, ToyVocabularyConfig):
        read = load().encode
        return TextInput(EncodedCaptions(source, read), read)
    if config.when == "each-step":
        return TextInput(WrittenCaptions(source), load().encode)
    if not isinstance(source, FiniteCaptionedDataset):
        raise ValueError(
            f"states.when 'cached' keeps every caption's states but the data has no end: set "
            f"--states.when each-step, or --text.kind {ToyVocabularyConfig.kind}"
        )
    captions = [*others, *distinct_captions(source)]
    read = open_states(config.folder, captions, load, dtype=config.dtype, quiet=False).read
    return TextInput(EncodedCaptions(source, read), read)

"""Captions of a text-to-image training: as states of a text encoder, or on their way to one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope.lab.data.captioned.base import CaptionedSource, FiniteCaptionedSource, distinct_captions
from harope.lab.data.dataset import Stream
from harope.lab.text import ClosedVocabularyConfig, TextConfig, TextEncoder, open_text_encoder
from harope.lab.training.task import TensorBatch
from harope.lab.training.tasks.caption_embeddings import CaptionEmbeddingDataset, EmbedCaptions, open_text_embeddings


@dataclass(frozen=True, kw_only=True)
class TextEmbeddingConfig:
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


class TextConditioning(NamedTuple):
    """What a training reads, and how it reads other captions."""

    stream: Stream[TensorBatch]
    """Images, then states and pooled vectors; or images, then captions as bytes."""
    read: EmbedCaptions
    """States of captions: any, or those that were cached."""


class CaptionByteDataset(Stream[TensorBatch]):
    """Images, and captions as bytes (batch, longest): a training loop moves tensors alone."""

    def __init__(self, source: CaptionedSource) -> None:
        self.shape = source.shape
        self._source = source

    def draw(self, numbers: Sequence[int]) -> TensorBatch:
        """The draws of these numbers."""
        images, captions = self._source.draw(numbers)
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


def open_text_conditioning(
    text: TextConfig,
    config: TextEmbeddingConfig,
    source: CaptionedSource,
    others: Sequence[str],
    device: torch.device,
) -> TextConditioning:
    """The states of the source's captions and of `others`, or what makes them in every step.

    Raises ValueError where captions without end shall be cached, OSError where the encoder is not
    found.
    """

    def load() -> TextEncoder:
        return open_text_encoder(text, device, getattr(torch, config.encoder_dtype))

    if isinstance(text, ClosedVocabularyConfig):
        read = load().encode
        return TextConditioning(CaptionEmbeddingDataset(source, read), read)
    if config.when == "each-step":
        return TextConditioning(CaptionByteDataset(source), load().encode)
    if not isinstance(source, FiniteCaptionedSource):
        raise ValueError(
            f"states.when 'cached' keeps every caption's states but the data has no end: set "
            f"--states.when each-step, or --text.kind {ClosedVocabularyConfig.kind}"
        )
    captions = [*others, *distinct_captions(source)]
    read = open_text_embeddings(config.folder, captions, load, dtype=config.dtype, quiet=False).read
    return TextConditioning(CaptionEmbeddingDataset(source, read), read)

"""Text embeddings of captioned data: cached on disk before training, or computed in every step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope._utils.distributed import main_process_first
from harope._utils.field_checks import UNIT_INTERVAL, check_range
from harope.lab.data.captioned.base import (
    CaptionedDataset,
    FiniteCaptionedDataset,
    distinct_captions,
)
from harope.lab.data.dataset import Dataset
from harope.lab.text import (
    EmbeddingCache,
    TextConfig,
    TextEmbeddings,
    TextEncoder,
    ToyVocabularyConfig,
    fill_cache,
    open_text_encoder,
)
from harope.lab.text.cache import CacheDtype, is_filled
from harope.lab.text.encoder import DEFAULT_MAX_TRUNCATED, check_truncation
from harope.lab.text.registry import encoder_source
from harope.lab.training.task import TensorBatch

EmbedCaptions = Callable[[Sequence[str]], TextEmbeddings]
"""Returns the text embeddings of captions."""


@dataclass(frozen=True, kw_only=True)
class TextEmbeddingConfig:
    """When a pretrained text encoder runs. A toy vocabulary is always looked up on the fly."""

    when: Literal["cached", "each-step"] = "cached"
    """"cached": once per caption, before training, into files. "each-step": in every training step,
    on the training's device, for embeddings too large to store (SD3's 333 token embeddings of a
    caption take 2.7 MB in half precision)."""
    folder: str = "data/text-states"
    """Folder of the cached embeddings, which several trainings may share."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the cached embeddings."""
    encoder_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the encoder's weights."""
    max_truncated: float | None = DEFAULT_MAX_TRUNCATED
    """Largest fraction of the captions that may be longer than the encoder reads; None not to count
    them."""

    def __post_init__(self) -> None:
        check_range(self, UNIT_INTERVAL, "max_truncated")


class TextConditioning(NamedTuple):
    """Captioned training data as tensors, and a function that embeds other captions."""

    dataset: Dataset[TensorBatch]
    """Batches of images, text embeddings, pooled embeddings and mask; or of images and captions as
    bytes, to be embedded in the training step."""
    embed: EmbedCaptions
    """Embeds any caption, or, with cached embeddings, those in the cache."""


class CaptionEmbeddingDataset(Dataset[TensorBatch]):
    """Images or latents with the text embeddings, pooled embeddings and masks of their captions.

    Args:
        source: Images or latents with captions.
        embed: Embeds captions; a cache raises ValueError for a caption that it does not contain.
    """

    def __init__(self, source: CaptionedDataset, embed: EmbedCaptions) -> None:
        self._source, self._embed = source, embed
        self.shape = source.shape

    @property
    def identity(self) -> dict[str, Any]:
        return self._source.identity

    def samples(self, numbers: Sequence[int]) -> TensorBatch:
        images, captions = self._source.samples(numbers)
        return images, *self._embed(captions)


class CaptionByteDataset(Dataset[TensorBatch]):
    """Images or latents with their captions as bytes, since the training loop only moves tensors.

    Args:
        source: Images or latents with captions.
    """

    def __init__(self, source: CaptionedDataset) -> None:
        self._source = source
        self.shape = source.shape

    @property
    def identity(self) -> dict[str, Any]:
        return self._source.identity

    def samples(self, numbers: Sequence[int]) -> TensorBatch:
        images, captions = self._source.samples(numbers)
        return images, pack_captions(captions)


def pack_captions(captions: Sequence[str]) -> UInt8[Tensor, "batch longest"]:
    """Encode captions as UTF-8 bytes.

    Args:
        captions: At least one caption.

    Returns:
        One row per caption, padded with zeros to the longest.
    """
    texts = [caption.encode() for caption in captions]
    longest = max(len(text) for text in texts)
    return torch.stack(
        [torch.tensor([*text.ljust(longest, b"\0")], dtype=torch.uint8) for text in texts]
    )


def unpack_captions(packed: UInt8[Tensor, "batch longest"]) -> list[str]:
    """Decode captions that `pack_captions` encoded.

    Args:
        packed: One row of bytes per caption.

    Returns:
        The captions.
    """
    return [bytes(row).rstrip(b"\0").decode() for row in packed.tolist()]


def open_text_conditioning(
    text: TextConfig,
    config: TextEmbeddingConfig,
    source: CaptionedDataset,
    other_captions: Sequence[str],
    device: torch.device,
) -> TextConditioning:
    """Prepare the text embeddings of a training.

    Args:
        text: Text encoder.
        config: When it runs, and where its embeddings are cached.
        source: Training data.
        other_captions: Captions to embed besides those of the data.
        device: Device of the encoder.

    Returns:
        The training data with embeddings or packed captions, and a function that embeds captions.

    Raises:
        ValueError: If the captions of infinite data were to be cached.
        OSError: If the text encoder is not found.
    """

    encoder_dtype = getattr(torch, config.encoder_dtype)

    def load() -> TextEncoder:
        return open_text_encoder(text, device, encoder_dtype)

    if isinstance(text, ToyVocabularyConfig):
        embed = load().encode
        return TextConditioning(CaptionEmbeddingDataset(source, embed), embed)
    if config.when == "each-step":
        encoder = load()
        if isinstance(source, FiniteCaptionedDataset):
            check_truncation(encoder, distinct_captions(source), config.max_truncated)
        return TextConditioning(CaptionByteDataset(source), encoder.encode)
    if not isinstance(source, FiniteCaptionedDataset):
        raise ValueError(
            f"states.when is 'cached', but data without end has too many captions to cache: set "
            f"--states.when each-step, or --text.kind {ToyVocabularyConfig.kind}"
        )
    captions = [*other_captions, *distinct_captions(source)]
    cache = open_text_embeddings(
        config.folder,
        captions,
        encoder_source(text, encoder_dtype),
        load,
        dtype=config.dtype,
        max_truncated=config.max_truncated,
        quiet=False,
    )
    return TextConditioning(CaptionEmbeddingDataset(source, cache.read), cache.read)


def open_text_embeddings(
    folder: str | Path,
    captions: Sequence[str],
    source: Mapping[str, Any] | None,
    load: Callable[[], TextEncoder],
    *,
    dtype: CacheDtype = "float32",
    **options: Any,
) -> EmbeddingCache:
    """Open a cache of text embeddings, after adding the captions that are missing from it.

    In a distributed training the main process fills the cache while the others wait.

    Args:
        folder: Folder of the cache, created if missing.
        captions: Captions that the cache must contain.
        source: What the encoder is loaded from, as `encoder_source` describes it.
        load: Builds the encoder. Called only if captions are missing or the cache was filled from
            another source; the encoder is freed afterwards.
        dtype: Data type of the cached embeddings.
        options: Further options of `fill_cache`.

    Returns:
        The cache.

    Raises:
        ValueError: If the folder contains embeddings of another encoder or data type, or too many
            captions are longer than the encoder reads.
    """

    with main_process_first():
        if not is_filled(folder, captions, source, dtype):
            fill_cache(folder, load(), captions, dtype=dtype, source=source, **options)
        return EmbeddingCache(folder)

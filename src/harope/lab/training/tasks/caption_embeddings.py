"""Captioned data as tensors: the text states of every caption, from a cache on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from harope.lab.data.captioned.base import CaptionedDataset
from harope.lab.data.dataset import Dataset
from harope.lab.text import EmbeddingCache, TextEmbeddings, TextEncoder, fill_cache
from harope.lab.text.cache import MANIFEST_FILE

ReadStates = Callable[[Sequence[str]], TextEmbeddings]


class EncodedCaptions(Dataset[tuple[Tensor, ...]]):
    """Draws of a captioned source: images or latents, then states, pooled vectors and mask."""

    def __init__(self, source: CaptionedDataset, read: ReadStates) -> None:
        self._source, self._read = source, read
        self.shape = source.shape

    def samples(self, numbers: Sequence[int]) -> tuple[Tensor, ...]:
        """The draws of these numbers. ValueError naming a caption that a cache lacks."""
        images, captions = self._source.samples(numbers)
        return images, *self._read(captions)


def open_states(
    folder: str | Path, captions: Sequence[str], load: Callable[[], TextEncoder], **options: Any
) -> EmbeddingCache:
    """A cache that holds all the captions; one process fills it first where it does not.

    `load` makes the encoder, which is let go of afterwards; where nothing is missing it is not
    called. `options` are those of `fill_cache`.
    """
    from accelerate import PartialState

    with PartialState().main_process_first():
        if not _holds(Path(folder), captions):
            fill_cache(folder, load(), captions, **options)
        return EmbeddingCache(folder)


def _holds(folder: Path, captions: Sequence[str]) -> bool:
    there = (folder / MANIFEST_FILE).is_file()
    return there and set(captions) <= set(EmbeddingCache(folder).captions)

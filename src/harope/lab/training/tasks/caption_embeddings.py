"""Captioned data as tensors: the text states of every caption, from a cache on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from harope.lab.data.captioned.base import CaptionedSource
from harope.lab.data.dataset import Stream
from harope.lab.text import CachedStates, TextEncoder, TextStates, fill_cache
from harope.lab.text.cache import MANIFEST_FILE

EmbedCaptions = Callable[[Sequence[str]], TextStates]


class CaptionEmbeddingDataset(Stream[tuple[Tensor, ...]]):
    """Draws of a captioned source: images or latents, then states, pooled vectors and mask."""

    def __init__(self, source: CaptionedSource, read: EmbedCaptions) -> None:
        self._source, self._read = source, read
        self.shape = source.shape

    def draw(self, numbers: Sequence[int]) -> tuple[Tensor, ...]:
        """The draws of these numbers. ValueError naming a caption that a cache lacks."""
        images, captions = self._source.draw(numbers)
        return images, *self._read(captions)


def open_text_embeddings(
    folder: str | Path, captions: Sequence[str], load: Callable[[], TextEncoder], **options: Any
) -> CachedStates:
    """A cache that holds all the captions; one process fills it first where it does not.

    `load` makes the encoder, which is let go of afterwards; where nothing is missing it is not
    called. `options` are those of `fill_cache`.
    """
    from accelerate import PartialState

    with PartialState().main_process_first():
        if not _holds(Path(folder), captions):
            fill_cache(folder, load(), captions, **options)
        return CachedStates(folder)


def _holds(folder: Path, captions: Sequence[str]) -> bool:
    there = (folder / MANIFEST_FILE).is_file()
    return there and set(captions) <= set(CachedStates(folder).captions)

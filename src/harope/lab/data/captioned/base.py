"""Images with captions, drawn by number: what text-to-image training reads."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope.lab.data.dataset import Dataset, FiniteDataset
from harope.lab.data.image_io import Fit, read_image_on_white
from harope.lab.data.string_table import StringTable

CaptionedBatch: TypeAlias = tuple[Float32[Tensor, "batch channels height width"], list[str]]


class CaptionedDataset(Dataset[CaptionedBatch]):
    """Images in [-1, 1], or latents, each with a caption."""


class FiniteCaptionedDataset(FiniteDataset[CaptionedBatch], CaptionedDataset):
    """A data set of fixed length in which every item has one caption or several.

    ``draw`` takes one of an item's captions by (seed, number) alone, ``items`` the first one.
    """

    def __init__(self, length: int, seed: int):
        super().__init__(length, seed)
        self._seed = seed

    @abstractmethod
    def images(self, indices: Sequence[int]) -> Float32[Tensor, "batch channels height width"]:
        """The images at these places of the data set."""

    @abstractmethod
    def captions(self, index: int) -> list[str]:
        """All captions of the item at this place, at least one."""

    def items(self, indices: Sequence[int]) -> CaptionedBatch:
        """The items at these places of the data set, each with its first caption."""
        return self.images(indices), [self.captions(index)[0] for index in indices]

    def draw(self, numbers: Sequence[int]) -> CaptionedBatch:
        """The items that the shuffle puts at these draw numbers, each with one of its captions."""
        places = self.places(numbers)
        captions = [
            choose(self.captions(place), self._seed, number)
            for place, number in zip(places, numbers, strict=True)
        ]
        return self.images(places), captions


class CaptionedFilesDataset(FiniteCaptionedDataset):
    """RGB image files (3, image_size, image_size), what is transparent white, with captions.

    ``items`` are paths below ``root`` and the captions of each. Raises ValueError on drawing for a
    file that cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        items: Sequence[tuple[str, Sequence[str]]],
        image_size: int,
        seed: int = 0,
        fit: Fit = "crop",
    ):
        self._root, self._fit = Path(root), fit
        self._files = StringTable([file] for file, _ in items)
        self._captions = StringTable(captions for _, captions in items)
        self.shape = (3, image_size, image_size)
        super().__init__(len(items), seed)

    def images(self, indices: Sequence[int]) -> Float32[Tensor, "batch 3 height width"]:
        """The images at these places."""
        paths = [self._root / self._files[index][0] for index in indices]
        size = self.shape[1]
        return torch.stack([read_image_on_white(path, size, self._fit) for path in paths])

    def captions(self, index: int) -> list[str]:
        """All captions of the image at this place."""
        return self._captions[index]


def distinct_captions(source: FiniteCaptionedDataset) -> list[str]:
    """Every caption of a data set once, in its order: what a cache of text states holds."""
    return list(dict.fromkeys(_every_caption(source)))


def choose(captions: Sequence[str], seed: int, number: int) -> str:
    """The caption of this draw: each is equally likely."""
    if len(captions) == 1:
        return captions[0]
    # The spawn key sets these bits apart from those that shuffle and mirror.
    bits = np.random.SeedSequence((seed, number), spawn_key=(2,)).generate_state(1)
    return captions[int(bits[0]) * len(captions) >> 32]


def clean_captions(value: object, where: str) -> list[str]:
    """A caption or a list of them, stripped. ValueError naming ``where`` it is missing or empty."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise ValueError(f"{where} has no caption: write one, or leave the picture out")
    for caption in values:
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"{where} has the empty caption {caption!r}: write one")
    return [caption.strip() for caption in values]


def require(names: Iterable[str], present: set[str], named_in: Path, root: Path) -> None:
    """ValueError naming the first file that an index names and the folder lacks."""
    for name in names:
        if name not in present:
            raise ValueError(f"{named_in} names {name}, which {root} lacks: add it or its line out")


def check_image_size(image_size: int) -> None:
    """ValueError where pictures would have no pixels."""
    if image_size < 1:
        raise ValueError(f"image_size {image_size} must be at least 1")


def _every_caption(source: FiniteCaptionedDataset) -> Iterator[str]:
    for index in range(len(source)):
        yield from source.captions(index)

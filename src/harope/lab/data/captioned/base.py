"""Captioned images: the training data of text-to-image models."""

import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.digests import bytes_digest, listing_digest
from harope.lab.data.dataset import Dataset, FiniteDataset, sample_bits
from harope.lab.data.image_io import center_crop, pad_square, read_image
from harope.lab.data.left_out import LeftOut

CaptionedBatch: TypeAlias = tuple[Float32[Tensor, "batch channels height width"], list[str]]
"""Images or latents, and one caption for each."""

MAX_CAPTION_BYTES = 2**20
"""Largest size of a file with the captions of one image."""
Fit: TypeAlias = Literal["crop", "pad"]
"""How an image becomes square: by a centre crop, or by white padding."""
_CROPS = {"crop": center_crop, "pad": pad_square}

# Purpose of the random bits that pick a caption, see `sample_bits`.
_CAPTION = 2


class CaptionedDataset(Dataset[CaptionedBatch]):
    """Dataset of images in [-1, 1], or latents, with one caption per sample."""


class FiniteCaptionedDataset(FiniteDataset[CaptionedBatch], CaptionedDataset):
    """Dataset of fixed length in which every item has one or more captions.

    `samples` picks one of an item's captions depending on the sample number and the seed only;
    `items` returns the first one.

    Args:
        length: Number of items.
        seed: Seed of the shuffles and of the choice among captions.
    """

    def __init__(self, length: int, seed: int):
        super().__init__(length, seed)
        self._seed = seed

    @cached_property
    def identity(self) -> dict[str, Any]:
        captions = (json.dumps(self.captions(index)).encode() for index in range(len(self)))
        return super().identity | {"captions": bytes_digest(*captions, length=16)}

    @abstractmethod
    def images(self, indices: Sequence[int]) -> Float32[Tensor, "batch channels height width"]:
        """Return the images or latents of items.

        Args:
            indices: Item indices, each in [0, length).

        Returns:
            Images in [-1, 1] or latents, float32.
        """

    @abstractmethod
    def captions(self, index: int) -> list[str]:
        """Return all captions of an item.

        Args:
            index: Item index, in [0, length).

        Returns:
            At least one caption.
        """

    def items(self, indices: Sequence[int]) -> CaptionedBatch:
        return self.images(indices), [self.captions(index)[0] for index in indices]

    def samples(self, numbers: Sequence[int]) -> CaptionedBatch:
        indices = self.item_indices(numbers)
        captions = [
            pick_caption(self.captions(index), self._seed, number)
            for index, number in zip(indices, numbers, strict=True)
        ]
        return self.images(indices), captions


class CaptionedFilesDataset(FiniteCaptionedDataset):
    """Captioned RGB image files (3, image_size, image_size), with transparency shown as white.

    Reading raises ValueError for a file that cannot be decoded.

    Args:
        root: Folder that the image paths are relative to.
        items: Path and captions of each image.
        image_size: Height and width in pixels.
        seed: Seed of the shuffles and of the choice among captions.
        fit: How images become square.
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

    @cached_property
    def identity(self) -> dict[str, Any]:
        return super().identity | {"fit": self._fit}

    def files_digest(self, *, times: bool = False) -> str:
        names = (self._files[index][0] for index in range(len(self)))
        return listing_digest(self._root, names, times=times)

    def images(self, indices: Sequence[int]) -> Float32[Tensor, "batch 3 height width"]:
        paths = [self._root / self._files[index][0] for index in indices]
        return torch.stack([read_image(path, self.shape[1], _CROPS[self._fit]) for path in paths])

    def captions(self, index: int) -> list[str]:
        return self._captions[index]


class StringTable:
    """Read-only sequence of lists of strings, stored as one byte string and two offset arrays.

    A Python list of a million strings would be copied into every worker process, because
    reference counting writes to each string.

    Args:
        lists: The lists of strings, in order. File names may contain lone surrogates, which stand
            for bytes that are not UTF-8.
    """

    def __init__(self, lists: Iterable[Sequence[str]]):
        lengths, counts, parts = [0], [0], []
        for strings in lists:
            encoded = [string.encode(errors="surrogateescape") for string in strings]
            parts += encoded
            lengths += [len(part) for part in encoded]
            counts.append(len(encoded))
        self._bytes = b"".join(parts)
        self._string_offsets = np.cumsum(lengths)
        self._list_offsets = np.cumsum(counts)

    def __len__(self) -> int:
        return len(self._list_offsets) - 1

    def __getitem__(self, index: int) -> list[str]:
        """Return the list of strings at an index.

        Args:
            index: Index in [0, length).

        Returns:
            The strings.

        Raises:
            IndexError: If the index is out of range.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is not in [0, {len(self)})")
        rows = range(self._list_offsets[index], self._list_offsets[index + 1])
        ends = self._string_offsets
        parts = (self._bytes[ends[row] : ends[row + 1]] for row in rows)
        return [part.decode(errors="surrogateescape") for part in parts]


def distinct_captions(dataset: FiniteCaptionedDataset) -> list[str]:
    """Return every caption of a dataset once.

    Args:
        dataset: Captioned dataset.

    Returns:
        Captions in the order of their first occurrence.
    """
    everywhere = (caption for i in range(len(dataset)) for caption in dataset.captions(i))
    return list(dict.fromkeys(everywhere))


def pick_caption(captions: Sequence[str], seed: int, number: int) -> str:
    """Pick one caption for a sample, uniformly at random.

    Args:
        captions: Captions of the image.
        seed: Seed of the dataset.
        number: Sample number.

    Returns:
        One of the captions.
    """
    if len(captions) == 1:
        return captions[0]
    return captions[sample_bits(seed, number, _CAPTION) * len(captions) >> 32]


def clean_captions(value: object, where: str) -> list[str]:
    """Return the captions in a metadata value, stripped of surrounding white space.

    Args:
        value: A caption or a list of captions.
        where: Location of the value, for the error message.

    Returns:
        At least one caption.

    Raises:
        ValueError: If there is no caption, or one is empty or not a string.
    """
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise ValueError(f"{where} has no caption: add one, or leave the image out")
    for caption in values:
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"{where} has the empty caption {caption!r}: write a text")
        if not is_unicode(caption):
            raise ValueError(f"{where} has a caption with lone surrogates, {caption!r}: repair it")
    return [caption.strip() for caption in values]


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8.

    Args:
        text: The text.

    Returns:
        False if it contains lone surrogates, which JSON allows.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def match_files(
    names: Sequence[str], present: Iterable[str], listed_in: Path, root: Path, left_out: LeftOut
) -> None:
    """Compare the image files that an index file lists with those that exist.

    Args:
        names: Listed file names, relative to `root`.
        present: Names of the files that exist.
        listed_in: The index file.
        root: Folder of the images.
        left_out: Counts the files that are not listed.

    Raises:
        ValueError: If a listed file is missing; the message names the first one.
    """
    listed, present = set(names), set(present)
    for name in sorted(present - listed):
        left_out.add(f"images that {listed_in.name} does not list", name)
    for name in names:
        if name not in present:
            raise ValueError(
                f"{listed_in} lists {name}, which is missing from {root}: add the file or remove "
                f"its entry"
            )

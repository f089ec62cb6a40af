"""Folders of image files, one sub-folder per class, prepared as for diffusion or classification."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope.lab.data.dataset import Batch, FiniteLabelledDataset
from harope.lab.data.image_io import (
    EXTENSIONS,
    center_crop,
    find_images,
    random_crop,
    read_image,
    visible,
)

if TYPE_CHECKING:
    from harope.lab.data.image_io import Crop


@dataclass(frozen=True, kw_only=True)
class FolderDataConfig:
    """A folder of images, such as ImageNet's training folder."""

    kind: Literal["folder"] = "folder"
    root: str
    """Holds one folder per class, or images alone: then there is one class."""
    image_size: int = 256
    """Height and width in pixels of the centre crop."""
    random_flip: bool = True
    """Whether every second draw, at random, is mirrored."""
    random_crop: float | None = None
    """Smallest share of the area that a random resized crop keeps, of 3 : 4 to 4 : 3 (0.08 is usual
    for classification); None for the centre crop."""

    def __post_init__(self) -> None:
        if self.random_crop is not None and not 0 < self.random_crop <= 1:
            raise ValueError(
                f"random_crop {self.random_crop} must lie in (0, 1], or be None for the centre crop"
            )
        if self.image_size < 1:
            raise ValueError(f"image_size {self.image_size} must be at least 1")


class ImageFolderDataset(FiniteLabelledDataset):
    """RGB images (3, image_size, image_size) of a folder; classes are its sub-folders by name.

    Items are in sorted order. Raises ValueError for a folder without images, and on drawing for
    a file that cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int,
        seed: int = 0,
        random_flip: bool = False,
        random_crop: float | None = None,
    ):
        self._root = os.fsencode(root)
        self._files, self._labels, self.num_classes = _scan(Path(root))
        self._seed, self._random_flip, self._random_crop = seed, random_flip, random_crop
        self.shape = (3, image_size, image_size)
        super().__init__(len(self._files), seed)

    def items(self, indices: Sequence[int]) -> Batch:
        """The images at these places of the sorted files, cropped and never mirrored."""
        images = [self._read(index, center_crop) for index in indices]
        return torch.stack(images), self._labels[torch.as_tensor(indices, dtype=torch.int64)]

    def draw(self, numbers: Sequence[int]) -> Batch:
        """The shuffled images, each cropped and mirrored or not by (seed, number) alone."""
        indices = [self._shuffle.index(number) for number in numbers]
        crops = [self._crop(number) for number in numbers]
        images = torch.stack([self._read(i, crop) for i, crop in zip(indices, crops, strict=True)])
        if self._random_flip:
            mirrored = torch.tensor([_bits(self._seed, number, 1) & 1 == 1 for number in numbers])
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return images, self._labels[torch.as_tensor(indices, dtype=torch.int64)]

    def _crop(self, number: int) -> "Crop":
        if self._random_crop is None:
            return center_crop
        return partial(random_crop, smallest=self._random_crop, seed=_bits(self._seed, number, 2))

    def _read(self, index: int, crop: "Crop") -> Float32[Tensor, "3 height width"]:
        path = os.fsdecode(os.path.join(self._root, self._files[index]))
        return read_image(path, self.shape[1], crop)


def _bits(seed: int, number: int, purpose: int) -> int:
    # The spawn key sets these bits apart from those that shuffle, and purposes from each other.
    return int(np.random.SeedSequence((seed, number), spawn_key=(purpose,)).generate_state(1)[0])


def _scan(root: Path) -> tuple[np.ndarray, Tensor, int]:
    """Paths below ``root`` (sorted by class, then name), the class of each, number of classes.

    The paths are one array of bytes: a list of a million strings would be copied into every
    worker, because counting references writes to each of them.
    """
    classes = sorted(entry.name for entry in visible(root) if entry.is_dir())
    files = [sorted(find_images(root, name)) for name in classes] or [sorted(find_images(root, ""))]
    empty = [name for name, found in zip(classes or ["."], files, strict=True) if not found]
    if empty:
        raise ValueError(
            f"{root / empty[0]} holds no image: put files ending in {', '.join(EXTENSIONS)} there"
            + (", or delete the folder" if classes else ", or in one folder per class")
        )
    counts = torch.tensor([len(found) for found in files])
    labels = torch.repeat_interleave(torch.arange(len(files)), counts)
    return np.array([path for found in files for path in found]), labels, len(files)

"""Folders of image files, one sub-folder per class, prepared as for class-conditional diffusion."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope.data.images import EXTENSIONS, image_files, read_image, visible
from harope.data.source import Batch, FiniteSource


@dataclass(frozen=True, kw_only=True)
class FolderData:
    """A folder of images, such as ImageNet's training folder."""

    kind: Literal["folder"] = "folder"
    root: str
    """Holds one folder per class, or images alone: then there is one class."""
    image_size: int = 256
    """Height and width in pixels of the centre crop."""
    random_flip: bool = True
    """Whether every second draw, at random, is mirrored."""

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image_size {self.image_size} must be at least 1")


class ImageFolderSource(FiniteSource):
    """RGB images (3, image_size, image_size) of a folder; classes are its sub-folders by name.

    Items are in sorted order. Raises ValueError for a folder without images, and on drawing for
    a file that cannot be read.
    """

    def __init__(self, root: str | Path, image_size: int, seed: int = 0, random_flip: bool = False):
        self._root = os.fsencode(root)
        self._files, self._labels, self.num_classes = _scan(Path(root))
        self._flip_seed = seed if random_flip else None
        self.shape = (3, image_size, image_size)
        super().__init__(len(self._files), seed)

    def items(self, indices: Sequence[int]) -> Batch:
        """The images at these places of the sorted files, cropped and never mirrored."""
        images = [self._read(index) for index in indices]
        return torch.stack(images), self._labels[torch.as_tensor(indices, dtype=torch.int64)]

    def draw(self, numbers: Sequence[int]) -> Batch:
        """The shuffled images, each mirrored or not by (seed, number) alone."""
        images, labels = super().draw(numbers)
        if self._flip_seed is not None:
            mirrored = torch.tensor([_coin(self._flip_seed, number) for number in numbers])
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return images, labels

    def _read(self, index: int) -> Float32[Tensor, "3 height width"]:
        path = os.fsdecode(os.path.join(self._root, self._files[index]))
        return read_image(path, self.shape[1])


def _coin(seed: int, number: int) -> bool:
    # The spawn key sets these bits apart from those that shuffle.
    return bool(np.random.SeedSequence((seed, number), spawn_key=(1,)).generate_state(1)[0] & 1)


def _scan(root: Path) -> tuple[np.ndarray, Tensor, int]:
    """Paths below ``root`` (sorted by class, then name), the class of each, number of classes.

    The paths are one array of bytes: a list of a million strings would be copied into every
    worker, because counting references writes to each of them.
    """
    classes = sorted(entry.name for entry in visible(root) if entry.is_dir())
    files = [sorted(image_files(root, name)) for name in classes] or [sorted(image_files(root, ""))]
    empty = [name for name, found in zip(classes or ["."], files, strict=True) if not found]
    if empty:
        raise ValueError(
            f"{root / empty[0]} holds no image: put files ending in {', '.join(EXTENSIONS)} there"
            + (", or delete the folder" if classes else ", or in one folder per class")
        )
    counts = torch.tensor([len(found) for found in files])
    labels = torch.repeat_interleave(torch.arange(len(files)), counts)
    return np.array([path for found in files for path in found]), labels, len(files)

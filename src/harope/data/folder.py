"""Folders of image files, one sub-folder per class, prepared as for class-conditional diffusion."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope.data.source import Batch, FiniteSource

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")
"""Endings of the files that count as images, in either case."""


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


def read_image(path: str | Path, size: int) -> Float32[Tensor, "3 {size} {size}"]:
    """An image file as RGB in [-1, 1], cropped to its centre. ValueError naming a damaged file."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            image = center_crop(file.convert("RGB"), size)
    # Damaged data raises nearly anything: OSError, SyntaxError, struct.error, DecompressionBomb...
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}): mend or delete it"
        ) from error
    pixels = torch.from_numpy(np.array(image))
    return pixels.permute(2, 0, 1).float() / 127.5 - 1


def center_crop(image: "Image", size: int) -> "Image":
    """The centre square, scaled so that the shorter side is ``size``.

    Box averages halve the picture while it is at least twice as large, then bicubic interpolation
    does the rest: the preparation of ADM (Dhariwal and Nichol 2021) and the models after it.
    """
    from PIL.Image import Resampling

    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    image = image.resize((width, height), Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _coin(seed: int, number: int) -> bool:
    # The spawn key sets these bits apart from those that shuffle.
    return bool(np.random.SeedSequence((seed, number), spawn_key=(1,)).generate_state(1)[0] & 1)


def _scan(root: Path) -> tuple[np.ndarray, Tensor, int]:
    """Paths below ``root`` (sorted by class, then name), the class of each, number of classes.

    The paths are one array of bytes: a list of a million strings would be copied into every
    worker, because counting references writes to each of them.
    """
    classes = sorted(entry.name for entry in _visible(root) if entry.is_dir())
    files = [sorted(_images(root, name)) for name in classes] or [sorted(_images(root, ""))]
    empty = [name for name, found in zip(classes or ["."], files, strict=True) if not found]
    if empty:
        raise ValueError(
            f"{root / empty[0]} holds no image: put files ending in {', '.join(EXTENSIONS)} there"
            + (", or delete the folder" if classes else ", or in one folder per class")
        )
    counts = torch.tensor([len(found) for found in files])
    labels = torch.repeat_interleave(torch.arange(len(files)), counts)
    return np.array([path for found in files for path in found]), labels, len(files)


def _images(root: Path, folder: str) -> Iterator[bytes]:
    """Paths, from ``root``, of the images in a folder and the folders inside it."""
    for entry in _visible(root / folder):
        path = os.path.join(folder, entry.name)
        if entry.name.lower().endswith(EXTENSIONS):
            yield os.fsencode(path)
        elif entry.is_dir():
            yield from _images(root, path)


def _visible(folder: Path) -> Iterator[os.DirEntry]:
    """Entries that are not hidden. Their type comes with the listing: no file is looked up."""
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))

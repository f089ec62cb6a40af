"""Folders of image files with one subfolder per class, such as ImageNet."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.digests import bytes_digest, listing_digest
from harope.lab.data.dataset import (
    Batch,
    FiniteLabelledDataset,
    ImageFilesDataConfig,
    sample_bits,
)
from harope.lab.data.image_files import EXTENSIONS, check_folder, find_images, visible_entries
from harope.lab.data.image_io import center_crop, random_crop, read_image
from harope.lab.data.left_out import DEFAULT_MAX_LEFT_OUT, LeftOut

if TYPE_CHECKING:
    from harope.lab.data.image_io import Crop

FolderSplit: TypeAlias = Literal["all", "train", "test"]
TRAIN_FOLDER = "train"
TEST_FOLDERS = ("val", "validation", "valid", "test")
"""Names of folders with held-out images next to a folder `train`; the first one found is read."""
DEFAULT_HELD_OUT_SHARE = 0.1

# Purposes of the random bits of a sample, see `sample_bits`.
_FLIP, _CROP = 1, 2


@dataclass(frozen=True, kw_only=True)
class FolderDataConfig(ImageFilesDataConfig):
    """Folder of images with one subfolder per class, such as ImageNet's training set."""

    kind: Literal["folder"] = "folder"
    root: str
    """Folder with one subfolder per class, or with images only, which then form one class."""
    random_flip: bool = True
    """Whether to mirror each sample with probability 1/2."""
    random_crop: float | None = None
    """Smallest fraction of the area that a random resized crop covers, with an aspect ratio from
    3 : 4 to 4 : 3 (0.08 is usual for classification); None for the centre crop."""
    split: FolderSplit = "all"
    """Which images: those of training ("train"), the held-out ones ("test") or both ("all"). If
    `root` has the folders `train` and `val` (or `validation`, `valid`, `test`), these are the two
    parts; otherwise `held_out_share` of the images is held out."""
    held_out_share: float = DEFAULT_HELD_OUT_SHARE
    """Fraction of the images that is held out, if `root` has no folders of its own for the two
    parts. The path of an image below `root` decides, so that an image stays in its part when others
    are added."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share must lie in (0, 1), got {self.held_out_share}")
        if self.random_crop is not None and not 0 < self.random_crop <= 1:
            raise ValueError(
                f"random_crop must lie in (0, 1], got {self.random_crop}: pass None for the centre "
                f"crop"
            )


class ImageFolderDataset(FiniteLabelledDataset):
    """RGB images (3, image_size, image_size) of a folder, whose subfolders are the classes.

    Images are read by `read_rgb`, which applies EXIF orientations and shows transparency as white.
    ADM's reader does neither; for images without them, the centre crops are equal.

    Items are sorted by class and path. `items` returns centre crops; `samples` crops and mirrors
    each sample depending on its number and the seed only, and raises ValueError for a file that
    cannot be read.

    Args:
        root: Folder with one subfolder per class, or with images only.
        image_size: Height and width in pixels of the cropped images.
        seed: Seed of the shuffles, crops and flips.
        random_flip: Whether to mirror each sample with probability 1/2.
        random_crop: Smallest fraction of the area of a random resized crop; None for the centre
            crop.
        max_left_out: Largest fraction of the images that may be left out, because their formats
            are not read or they are not in a subfolder.
        split: Which images to read, see `FolderDataConfig`.
        held_out_share: Fraction of the images that is held out.

    Raises:
        ValueError: If the folder or one of its subfolders contains no image, or more images are
            left out; if a part has no images, or the training part none of a class; if both parts
            are read while `root` has a folder for each.
        FileNotFoundError: If there is no such folder.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int,
        seed: int = 0,
        random_flip: bool = False,
        random_crop: float | None = None,
        max_left_out: float = DEFAULT_MAX_LEFT_OUT,
        split: FolderSplit = "all",
        held_out_share: float = DEFAULT_HELD_OUT_SHARE,
    ):
        root = Path(root)
        part = _find_part(root, split)
        self._root = os.fsencode(part or root)
        self.classes, files, labels = _scan(part or root, max_left_out)
        if split != "all" and part is None:
            chosen = _divide(root, self.classes, files, labels, split, held_out_share)
            files, labels = files[chosen], labels[torch.from_numpy(chosen)]
        self._files, self._labels = files, labels
        self.num_classes = max(len(self.classes), 1)
        self._seed, self._random_flip, self._random_crop = seed, random_flip, random_crop
        self.shape = (3, image_size, image_size)
        super().__init__(len(self._files), seed)

    @cached_property
    def identity(self) -> dict[str, Any]:
        return super().identity | {"classes": list(self.classes)}

    def files_digest(self, *, times: bool = False) -> str:
        names = (os.fsdecode(name) for name in self._files)
        return listing_digest(os.fsdecode(self._root), names, times=times)

    def items(self, indices: Sequence[int]) -> Batch:
        images = [self._read(index, center_crop) for index in indices]
        return torch.stack(images), self._labels[torch.as_tensor(indices, dtype=torch.int64)]

    def samples(self, numbers: Sequence[int]) -> Batch:
        indices = self.item_indices(numbers)
        crops = [self._crop(number) for number in numbers]
        images = torch.stack([self._read(i, crop) for i, crop in zip(indices, crops, strict=True)])
        if self._random_flip:
            bits = [sample_bits(self._seed, number, _FLIP) for number in numbers]
            mirrored = torch.tensor([value & 1 == 1 for value in bits])
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return images, self._labels[torch.as_tensor(indices, dtype=torch.int64)]

    def _crop(self, number: int) -> "Crop":
        if self._random_crop is None:
            return center_crop
        seed = sample_bits(self._seed, number, _CROP)
        return partial(random_crop, smallest=self._random_crop, seed=seed)

    def _read(self, index: int, crop: "Crop") -> Float32[Tensor, "3 height width"]:
        path = os.fsdecode(os.path.join(self._root, self._files[index]))
        return read_image(path, self.shape[1], crop)


def _find_part(root: Path, split: FolderSplit) -> Path | None:
    """Return the folder of a part; None if `root` has no folders for the two parts."""
    check_folder(root, "images")
    names = {entry.name for entry in visible_entries(root) if entry.is_dir()}
    tests = [name for name in TEST_FOLDERS if name in names]
    if TRAIN_FOLDER not in names or not tests:
        return None
    if others := sorted(names - {TRAIN_FOLDER, *TEST_FOLDERS}):
        raise ValueError(
            f"{root} has the folders {TRAIN_FOLDER} and {tests[0]}, which are parts of a data set, "
            f"and others, such as {others[0]}: move these, or rename {TRAIN_FOLDER} if it is a "
            f"class"
        )
    if split == "all":
        raise ValueError(
            f"{root} has the folders {TRAIN_FOLDER} and {tests[0]}, which are parts of a data set "
            f"and no classes: pass {root / TRAIN_FOLDER}"
        )
    return root / (TRAIN_FOLDER if split == "train" else tests[0])


def _divide(
    root: Path,
    classes: tuple[str, ...],
    files: np.ndarray,
    labels: Tensor,
    split: FolderSplit,
    share: float,
) -> np.ndarray:
    """Return which images belong to a part, by digests of their paths, as an array of booleans."""
    limit = share * 2**32
    held_out = np.array([int(bytes_digest(bytes(path), length=8), 16) < limit for path in files])
    if not held_out.any():
        raise ValueError(
            f"{root} has {len(files)} images, of which none is held out: set held_out_share, which "
            f"is {share}, to a larger fraction"
        )
    trained = set(labels[torch.from_numpy(~held_out)].tolist())
    missing = [name for label, name in enumerate(classes or ("",)) if label not in trained]
    if missing:
        raise ValueError(
            f"{root / missing[0]} has no images for training, because all are held out: add "
            f"images, or lower held_out_share, which is {share}"
        )
    return held_out if split == "test" else ~held_out


def _scan(root: Path, max_left_out: float) -> tuple[tuple[str, ...], np.ndarray, Tensor]:
    """Return the class names (none without subfolders), the sorted image paths and their classes.

    The paths form one array of bytes. A list of a million strings would be copied into every
    worker process, because reference counting writes to each string.
    """
    left_out = LeftOut(root)
    entries = list(visible_entries(root))
    classes = tuple(sorted(entry.name for entry in entries if entry.is_dir()))
    folders = classes or ("",)
    files = [sorted(find_images(root, left_out, name)) for name in folders]
    empty = [name for name, paths in zip(folders, files, strict=True) if not paths]
    if empty:
        raise ValueError(
            f"{root / empty[0]} contains no images: add files with the extensions "
            f"{', '.join(EXTENSIONS)}"
            + (", or delete the folder" if classes else ", directly or in one subfolder per class")
        )
    if classes:
        for entry in entries:
            if entry.name.lower().endswith(EXTENSIONS) and entry.name not in classes:
                left_out.add("images outside of the class folders", entry.name)
    counts = torch.tensor([len(paths) for paths in files])
    left_out.report(int(counts.sum()), max_left_out)
    labels = torch.repeat_interleave(torch.arange(len(files)), counts)
    return classes, np.array([path for paths in files for path in paths]), labels

"""Image sets that metrics are computed on: folders of image files, and arrays in `.npz` files."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from harope._utils.digests import bytes_digest, file_digest
from harope._utils.shards import contiguous_shard
from harope.lab.data.image_files import EXTENSIONS, find_images
from harope.lab.data.left_out import LeftOut
from harope.lab.metrics.npz import NpzImages
from harope.lab.metrics.tolerant_reader import TolerantReader, format_size


@runtime_checkable
class ImageSet(Protocol):
    """An ordered set of images of one size."""

    source: str
    """Path of the folder or file, as given by the caller."""

    @property
    def digest(self) -> str:
        """Digest that differs between sets of different images."""
        ...

    def __len__(self) -> int: ...

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Damaged files found so far, relative to the source."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    def batches(
        self, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[UInt8[np.ndarray, "batch height width 3"]]:
        """Iterate over one process's shard of the RGB images.

        Args:
            batch_size: Images per batch; the last batch may have fewer.
            rank: Number of this process.
            world_size: Number of processes.

        Yields:
            Batches in the order of the images.
        """
        ...


def open_images(path: str | Path, *, max_unreadable: float = 0.0) -> ImageSet:
    """Open a folder of images, including its subfolders, or an `.npz` with the array `arr_0`.

    Args:
        path: Folder or file.
        max_unreadable: Fraction of the folder's files, in [0, 1), that may be damaged. They are
            skipped and listed in `unreadable`.

    Returns:
        The images.

    Raises:
        ValueError: If more files are damaged, images differ in size, or there is no image.
    """
    path = Path(path)
    if path.is_dir():
        return FolderImages(path, max_unreadable=max_unreadable)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: pass a folder of images or an .npz file")
    return NpzImages(path)


class FolderImages:
    """The images below a folder in the order of their paths, without hidden files.

    The headers of all files are read at once, so that images of different sizes are found before
    features are computed. The digest covers the paths and contents of the files.

    Args:
        root: The folder.
        max_unreadable: Fraction of the files, in [0, 1), that may be damaged. They are skipped and
            listed in `unreadable`.

    Raises:
        ValueError: If more files are damaged, images differ in size, or there is no image.
    """

    def __init__(self, root: Path, *, max_unreadable: float = 0.0):
        paths = _list_images(root)
        self.source, self._root = str(root), root
        self._reader = TolerantReader(root, len(paths), max_unreadable)
        self.size, self._names = self._scan(paths)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def digest(self) -> str:
        # Computed on demand, because all files are read for it.
        parts = (f"{name}\0{file_digest(self._root / name)}" for name in self._names)
        return f"files:{bytes_digest(*map(os.fsencode, parts), length=16)}"

    @property
    def unreadable(self) -> tuple[str, ...]:
        return self._reader.names

    def batches(
        self, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[UInt8[np.ndarray, "batch height width 3"]]:
        """Iterate over one process's shard; files that turn out to be damaged are skipped."""
        shard = contiguous_shard(len(self._names), rank, world_size)
        for first in range(shard.start, shard.stop, batch_size):
            names = self._names[first : min(first + batch_size, shard.stop)]
            images = [image for name in names if (image := self._reader.read(name)) is not None]
            if images:
                yield np.stack(images)

    def _scan(self, names: list[str]) -> tuple[tuple[int, int], list[str]]:
        first: tuple[str, tuple[int, int]] | None = None
        readable = []
        for name in names:
            size = self._reader.size(name)
            if size is None:
                continue
            first = first or (name, size)
            if size != first[1]:
                raise ValueError(
                    f"{self._root / name} is {format_size(size)} but {first[0]} is "
                    f"{format_size(first[1])}: images must have one size"
                )
            readable.append(name)
        if first is None:
            raise ValueError(
                f"{self._root} holds no image: pass a folder of {', '.join(EXTENSIONS)} files"
            )
        return first[1], readable


def _list_images(root: Path) -> list[str]:
    left_out = LeftOut(root)
    names = sorted(os.fsdecode(path) for path in find_images(root, left_out))
    left_out.report(len(names), max_left_out=1.0)
    return names

"""Sets of images to measure: folders of pictures and arrays in `.npz` files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from harope._utils.digests import listing_digest
from harope._utils.shards import contiguous_shard
from harope.lab.metrics.npz import NpzImages
from harope.lab.metrics.tolerant_reader import EXTENSIONS, TolerantReader, pixels


@runtime_checkable
class ImageSet(Protocol):
    """Images of one size, in an order."""

    source: str
    """Where they come from, as the caller wrote it."""
    digest: str
    """Tells this set from others, cheaply."""

    def __len__(self) -> int: ...

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Files found damaged so far."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    def batches(
        self, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[UInt8[np.ndarray, "batch height width 3"]]:
        """The images of one process, RGB, in order; shares are contiguous."""
        ...


def open_images(path: str | Path, *, max_unreadable: float = 0.0) -> ImageSet:
    """A folder of pictures (and folders in it), or an `.npz` with `arr_0`.

    Up to the share `max_unreadable` of a folder's files may be damaged: they are left out, and
    named in `unreadable`. Raises ValueError for more, for images of different sizes, and where
    there is no image.
    """
    path = Path(path)
    if path.is_dir():
        return FolderImages(path, max_unreadable=max_unreadable)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: name a folder of images or an .npz file")
    return NpzImages(path)


class FolderImages:
    """The pictures below a folder, by sorted path, RGB; hidden files are passed over.

    All headers are read at once, so that images of different sizes fail before any work. The
    digest covers paths and sizes of files, not what is in them.
    """

    def __init__(self, root: Path, *, max_unreadable: float = 0.0):
        paths = _pictures(root)
        self.source, self._root = str(root), root
        self._damage = TolerantReader(root, len(paths), max_unreadable)
        self.size, self._names = self._scan(paths)
        self.digest = _digest(root, self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Damaged files, from the root."""
        return self._damage.names

    def batches(
        self, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[UInt8[np.ndarray, "batch height width 3"]]:
        """The images of one process, in order; those that turn out damaged are left out."""
        shard = contiguous_shard(len(self._names), rank, world_size)
        for first in range(shard.start, shard.stop, batch_size):
            names = self._names[first : min(first + batch_size, shard.stop)]
            images = [image for name in names if (image := self._damage.read(name)) is not None]
            if images:
                yield np.stack(images)

    def _scan(self, names: list[str]) -> tuple[tuple[int, int], list[str]]:
        first: tuple[str, tuple[int, int]] | None = None
        readable = []
        for name in names:
            size = self._damage.size(name)
            if size is None:
                continue
            first = first or (name, size)
            if size != first[1]:
                raise ValueError(
                    f"{self._root / name} is {pixels(size)} but {first[0]} is "
                    f"{pixels(first[1])}: images must have one size"
                )
            readable.append(name)
        if first is None:
            raise ValueError(
                f"{self._root} holds no image: name a folder of {', '.join(EXTENSIONS)} files"
            )
        return first[1], readable


def _pictures(root: Path) -> list[str]:
    """Paths below the root, sorted."""
    found = (path.relative_to(root) for path in root.rglob("*"))
    return sorted(
        path.as_posix()
        for path in found
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.parts)
        and (root / path).is_file()
    )


def _digest(root: Path, names: list[str]) -> str:
    return f"names:{listing_digest(root, names)}"

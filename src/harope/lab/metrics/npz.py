"""Images in `.npz` files, read and written batch by batch.

ADM's evaluation (Dhariwal and Nichol 2021) expects one array `arr_0`, uint8, (count, height, width,
3). `numpy.load` would read all of it into memory: 50,000 images of 256 x 256 pixels are 9.8 GB.
"""

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from harope._utils.atomic import atomic_path
from harope._utils.shards import contiguous_shard

IMAGES_KEY = "arr_0"
Member: TypeAlias = Any
"""An open file inside a zip file, which run-time type checkers do not accept as IO[bytes]."""
_SKIPPED_AT_ONCE = 2**20


class NpzImages:
    """The images of an `.npz` file, whose header is checked when it is opened.

    Args:
        path: The file.
        key: Name of the array.

    Raises:
        ValueError: If the file is not an `.npz`, or the array is missing or not of images.
    """

    def __init__(self, path: str | Path, key: str = IMAGES_KEY):
        self.source = str(path)
        self._member = f"{key}.npy"
        with self._open() as (_, shape, member):
            self._shape = shape
            self.digest = f"crc32:{member.CRC:08x}"

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Always empty: a damaged array raises ValueError when it is read."""
        return ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._shape[1], self._shape[2]

    def batches(
        self, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[UInt8[np.ndarray, "batch height width 3"]]:
        shard = contiguous_shard(len(self), rank, world_size)
        image_bytes = int(np.prod(self._shape[1:]))
        with self._open() as (stream, shape, _):
            self._skip(stream, shard.start * image_bytes)
            for first in range(shard.start, shard.stop, batch_size):
                count = min(batch_size, shard.stop - first)
                data = self._read(stream, count * image_bytes)
                yield np.frombuffer(data, np.uint8).reshape(count, *shape[1:])

    @contextmanager
    def _open(self) -> Iterator[tuple[Member, tuple[int, ...], zipfile.ZipInfo]]:
        """Open the array at its first image; give the stream, the array's shape and its zip entry.

        TolerantReader that is found while the stream is open raises ValueError too.
        """
        try:
            with zipfile.ZipFile(self.source) as archive:
                self._check_member(archive.namelist())
                with archive.open(self._member) as stream:
                    yield stream, self._header(stream), archive.getinfo(self._member)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(
                f"{self.source} is not an .npz file, or is damaged ({error}): write it again, or "
                "pass a folder of images"
            ) from error

    def _check_member(self, names: list[str]) -> None:
        if self._member not in names:
            arrays = ", ".join(sorted(name.removesuffix(".npy") for name in names))
            raise ValueError(
                f"{self.source} lacks the array {self._member.removesuffix('.npy')}: it has "
                f"{arrays}"
            )

    def _header(self, stream: Member) -> tuple[int, ...]:
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = read[np.lib.format.read_magic(stream)](stream)
        if dtype != np.uint8 or fortran or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise ValueError(
                f"{self.source} holds {dtype} of shape {shape}: images must be uint8 of shape "
                "(count, height, width, 3)"
            )
        return shape

    def _skip(self, stream: Member, count: int) -> None:
        while count:
            count -= len(self._read(stream, min(count, _SKIPPED_AT_ONCE)))

    def _read(self, stream: Member, count: int) -> bytes:
        data = stream.read(count)
        if len(data) < count:
            raise ValueError(f"{self.source} is damaged (it is truncated): write it again")
        return data


def write_npz(
    path: str | Path, batches: Iterable[UInt8[np.ndarray, "_ _ _ 3"]], count: int
) -> Path:
    """Write images as ADM's evaluation reads them, atomically.

    Args:
        path: File to write.
        batches: Images, batch by batch.
        count: Number of all images.

    Returns:
        The path of the file.

    Raises:
        ValueError: If there are not `count` images, or images differ in size.
    """
    path = Path(path)
    # The size is known only at the end, so the header must allow for more than 4 GiB.
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
        archive.open(f"{IMAGES_KEY}.npy", "w", force_zip64=True) as stream,
    ):
        _write_array(stream, batches, count)
    return path


def _write_array(
    stream: Member, batches: Iterable[UInt8[np.ndarray, "_ _ _ 3"]], count: int
) -> None:
    written, size = 0, None
    for batch in batches:
        if size is None:
            size = batch.shape[1:]
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, *size)}
            np.lib.format.write_array_header_1_0(stream, header)
        if batch.shape[1:] != size:
            raise ValueError(
                f"image {written} has shape {batch.shape[1:]} but those before it have {size}: "
                f"images must have one size"
            )
        stream.write(np.ascontiguousarray(batch).data)
        written += len(batch)
    if written != count:
        raise ValueError(f"batches hold {written} images but count is {count}")

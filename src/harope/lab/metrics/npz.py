"""Images in `.npz` files, read and written batch by batch.

ADM's evaluation (Dhariwal and Nichol 2021) expects one array `arr_0`, uint8, (count, height, width,
3). `numpy.load` would read all of it into memory: 50,000 images of 256 x 256 pixels are 9.8 GB.
"""

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from harope._utils.atomic import atomic_path
from harope._utils.shards import contiguous_shard
from harope._utils.untrusted import check_expansion, printable

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
        ValueError: If the file is not an `.npz`, or the array is missing, not of images, or not as
            large as its header says.
    """

    def __init__(self, path: str | Path, key: str = IMAGES_KEY):
        self.source = str(path)
        self._key = key
        with _open_array(self.source, key) as (stream, entry):
            self._shape = _read_image_header(stream, entry, self.source)
            self.digest = f"crc32:{entry.CRC:08x}"

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
        image_bytes = math.prod(self._shape[1:])
        with _open_array(self.source, self._key) as (stream, entry):
            shape = _read_image_header(stream, entry, self.source)
            self._skip(stream, shard.start * image_bytes)
            for first in range(shard.start, shard.stop, batch_size):
                count = min(batch_size, shard.stop - first)
                data = self._read(stream, count * image_bytes)
                yield np.frombuffer(data, np.uint8).reshape(count, *shape[1:])

    def _skip(self, stream: Member, count: int) -> None:
        while count:
            count -= len(self._read(stream, min(count, _SKIPPED_AT_ONCE)))

    def _read(self, stream: Member, count: int) -> bytes:
        data = stream.read(count)
        if len(data) < count:
            raise ValueError(f"{self.source} is damaged (it is truncated): write it again")
        return data


def read_arrays(path: str | Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of an `.npz` file into memory.

    Unlike `numpy.load`, it checks the sizes in the headers before it takes memory for them.

    Args:
        path: The file.
        keys: Names of the arrays.

    Returns:
        Those of the arrays that the file has.

    Raises:
        ValueError: If the file is not an `.npz`, or an array is damaged or expands to much more
            than the file.
    """
    with _open_archive(path) as archive:
        names = set(archive.namelist())
    arrays = {}
    for key in keys:
        if f"{key}.npy" not in names:
            continue
        with _open_array(path, key) as (stream, entry):
            source = f"array {key} of {path}"
            check_expansion(entry.compress_size, entry.file_size, source)
            _read_header(stream, entry, source)
        with _open_array(path, key) as (stream, _):
            arrays[key] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


@contextmanager
def _open_archive(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file. Damage that is found while it is open raises ValueError as well."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    # zipfile raises RuntimeError for encrypted and unknown kinds of compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not an .npz file, or is damaged ({error}): write it again, or pass a "
            f"folder of images"
        ) from error


@contextmanager
def _open_array(path: str | Path, key: str) -> Iterator[tuple[Member, zipfile.ZipInfo]]:
    """Open an array at its header, and find its zip entry."""
    with _open_archive(path) as archive:
        names = archive.namelist()
        if f"{key}.npy" not in names:
            arrays = ", ".join(sorted(name.removesuffix(".npy") for name in names))
            raise ValueError(f"{path} has no array {key}: it has {printable(arrays)}")
        with archive.open(f"{key}.npy") as stream:
            yield stream, archive.getinfo(f"{key}.npy")


def _read_header(
    stream: Member, entry: zipfile.ZipInfo, source: object
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, Fortran order and dtype, and check that the array has the size they imply."""
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        shape, fortran, dtype = read[np.lib.format.read_magic(stream)](stream)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{source} is not an .npy array ({error}): write it again") from None
    if dtype.hasobject:
        raise ValueError(f"{source} holds Python objects, which are not read: save numbers")
    claimed, actual = math.prod(shape) * dtype.itemsize, entry.file_size - stream.tell()
    if min(shape, default=0) < 0 or claimed != actual:
        raise ValueError(
            f"{source} is damaged (it is truncated, or its header is wrong: {dtype} of shape "
            f"{shape} takes {claimed:,} bytes, but there are {actual:,}): write it again"
        )
    return shape, fortran, dtype


def _read_image_header(stream: Member, entry: zipfile.ZipInfo, source: str) -> tuple[int, ...]:
    """Read the shape of an array of images."""
    check_expansion(entry.compress_size, entry.file_size, source)
    shape, fortran, dtype = _read_header(stream, entry, source)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
        raise ValueError(
            f"{source} holds {dtype} of shape {shape}: images must be uint8 of shape "
            "(count, height, width, 3)"
        )
    if 0 in shape:
        raise ValueError(f"{source} holds no images: its array has the shape {shape}")
    if fortran:
        raise ValueError(
            f"{source} holds images in Fortran order, which are not read one by one: save "
            f"numpy.ascontiguousarray(images)"
        )
    return shape


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

"""Images in the IDX format of MNIST, Fashion-MNIST, KMNIST and EMNIST."""

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from harope._utils.digests import paths_digest
from harope._utils.untrusted import check_expansion
from harope.lab.data.dataset import Batch, FiniteLabelledDataset

Split: TypeAlias = Literal["train", "test"]

_PREFIX = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 0x08


@dataclass(frozen=True, kw_only=True)
class IdxDataConfig:
    """Folder of IDX files, the format in which MNIST and Fashion-MNIST are distributed."""

    kind: Literal["idx"] = "idx"
    root: str
    """Folder of `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` etc., plain or `.gz`."""
    split: Split = "train"
    """Which files: those beginning with `train` ("train") or with `t10k` ("test")."""
    pad_to: int | None = None
    """Height and width to pad the images to with background, such as 32; None for no padding."""


class IdxDataset(FiniteLabelledDataset):
    """Greyscale images (1, height, width) of a pair of IDX files, stored in memory as bytes.

    The values 0..255 are scaled to [-1, 1].

    Args:
        root: Folder of the IDX files.
        split: Which files to read.
        seed: Seed of the shuffles.
        pad_to: Height and width to pad the images to with a centred border of -1.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, the numbers of images and labels differ, or `pad_to` is
            smaller than the images.
    """

    def __init__(
        self, root: str | Path, split: Split = "train", *, seed: int = 0, pad_to: int | None = None
    ):
        images_path = _find(Path(root), f"{_PREFIX[split]}-images-idx3-ubyte")
        labels_path = _find(Path(root), f"{_PREFIX[split]}-labels-idx1-ubyte")
        images, labels = read_idx(images_path, num_axes=3), read_idx(labels_path, num_axes=1)
        if len(images) != len(labels):
            raise ValueError(
                f"{images_path} contains {len(images)} images but {labels_path} {len(labels)} "
                "labels: use the two files of one dataset"
            )
        super().__init__(len(images), seed)
        self._images = images if pad_to is None else _pad(images, pad_to)
        self._labels = labels.long()
        self._paths = images_path, labels_path
        self.shape = (1, self._images.shape[1], self._images.shape[2])
        self.num_classes = int(labels.max()) + 1

    def files_digest(self, *, times: bool = False) -> str:
        return paths_digest(self._paths, times=times)

    def items(self, indices: Sequence[int]) -> Batch:
        rows = torch.as_tensor(indices, dtype=torch.int64)
        return self._images[rows].unsqueeze(1).float() / 127.5 - 1, self._labels[rows]


def read_idx(path: str | Path, num_axes: int) -> UInt8[Tensor, "..."]:
    """Read an IDX file of unsigned bytes, decompressing it if its name ends in `.gz`.

    The file begins with the bytes 0, 0, the type (8 for unsigned bytes) and the number of axes.
    The length of each axis follows as a big-endian 32-bit integer, then the values.

    Args:
        path: Path of the file.
        num_axes: Expected number of axes.

    Returns:
        The values, of the shape that the file states.

    Raises:
        ValueError: If the file does not have this format, has another size than it states, expands
            to more than 100 times its size, or cannot be decompressed.
        OSError: If the file cannot be opened.
    """
    path, start = Path(path), 4 + 4 * num_axes
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(start)
            shape = _parse_shape(header, num_axes, path)
            count = math.prod(shape)
            check_expansion(path.stat().st_size, start + count, path)
            # A bytearray, because torch warns about read-only memory. One byte more than expected
            # shows whether the file is too long.
            data = bytearray(file.read(count + 1))
    except (EOFError, OSError, zlib.error) as error:
        if path.suffix != ".gz" or isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} cannot be decompressed ({error}): download it again") from error
    if len(data) != count:
        more = " or more" if len(data) > count else ""
        raise ValueError(
            f"{path} should contain {count} values of shape {tuple(shape)} but contains "
            f"{len(data)}{more}: download the file again"
        )
    return torch.frombuffer(data, dtype=torch.uint8).view(shape)


def _parse_shape(header: bytes, num_axes: int, path: Path) -> list[int]:
    expected = bytes((0, 0, _UNSIGNED_BYTE, num_axes))
    if header[:4] != expected or len(header) < 4 + 4 * num_axes:
        raise ValueError(
            f"{path} begins with the bytes {header[:4].hex(' ')!r}, but an IDX file of bytes with "
            f"{num_axes} axes begins with {expected.hex(' ')!r}: use the unmodified file"
        )
    return np.frombuffer(header, ">u4", count=num_axes, offset=4).tolist()


def _find(root: Path, name: str) -> Path:
    for path in (root / name, root / f"{name}.gz"):
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{root} contains neither {name} nor {name}.gz: pass the folder of the IDX files"
    )


def _pad(images: UInt8[Tensor, "n h w"], size: int) -> UInt8[Tensor, "n size size"]:
    height, width = images.shape[1:]
    if size < max(height, width):
        raise ValueError(
            f"pad_to {size} is smaller than the images of {height} x {width}: "
            f"it must be at least {max(height, width)}"
        )
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(images, (left, size - width - left, top, size - height - top))

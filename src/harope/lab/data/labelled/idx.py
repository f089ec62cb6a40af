"""Images in the IDX format of MNIST and its relatives (Fashion-MNIST, KMNIST, EMNIST)."""

import gzip
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

from harope.lab.data.dataset import Batch, FiniteLabelledDataset

Split: TypeAlias = Literal["train", "test"]

_PREFIX = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 0x08


@dataclass(frozen=True, kw_only=True)
class IdxDataConfig:
    """A folder of IDX files, as MNIST and Fashion-MNIST are given out."""

    kind: Literal["idx"] = "idx"
    root: str
    """Folder of ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` (plain or ``.gz``)."""
    split: Split = "train"
    """``train``, or ``test`` for the files that begin with ``t10k``."""
    pad_to: int | None = None
    """Height and width to pad the images to with background, such as 32; None: leave them."""


class IdxDataset(FiniteLabelledDataset):
    """Grey images (1, height, width) of a pair of IDX files, held in memory as bytes.

    Bytes 0..255 become -1..1; ``pad_to`` adds a border of -1, even on both sides. Raises
    FileNotFoundError where a file is missing and ValueError where one is damaged, where images
    and labels differ in number, or where ``pad_to`` is smaller than the images.
    """

    def __init__(
        self, root: str | Path, split: Split = "train", *, seed: int = 0, pad_to: int | None = None
    ):
        images_path = _find(Path(root), f"{_PREFIX[split]}-images-idx3-ubyte")
        labels_path = _find(Path(root), f"{_PREFIX[split]}-labels-idx1-ubyte")
        images, labels = read_idx(images_path, num_axes=3), read_idx(labels_path, num_axes=1)
        if len(images) != len(labels):
            raise ValueError(
                f"{images_path} holds {len(images)} images but {labels_path} {len(labels)} labels: "
                "take both files from the same data set"
            )
        super().__init__(len(images), seed)
        self._images = images if pad_to is None else _pad(images, pad_to)
        self._labels = labels.long()
        self.shape = (1, self._images.shape[1], self._images.shape[2])
        self.num_classes = int(labels.max()) + 1

    def items(self, indices: Sequence[int]) -> Batch:
        """The images and labels at these places of the files."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return self._images[chosen].unsqueeze(1).float() / 127.5 - 1, self._labels[chosen]


def read_idx(path: str | Path, num_axes: int) -> UInt8[Tensor, "..."]:
    """Read an IDX file of bytes with ``num_axes`` axes, unpacking it where it ends in ``.gz``.

    The format: bytes 0, 0, the type (8: unsigned byte), the number of axes; then each axis'
    length as a big-endian 32-bit number; then the values. ValueError where the file differs.
    """
    data = _read_bytes(Path(path))
    start = 4 + 4 * num_axes
    expected = bytes((0, 0, _UNSIGNED_BYTE, num_axes))
    if data[:4] != expected or len(data) < start:
        raise ValueError(
            f"{path} begins with bytes {data[:4].hex(' ')!r}, but an IDX file of bytes with "
            f"{num_axes} axes begins with {expected.hex(' ')!r}: give the unchanged file"
        )
    shape = np.frombuffer(data, ">u4", count=num_axes, offset=4).tolist()
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) - start != count:
        raise ValueError(
            f"{path} should hold {count} values for its shape {tuple(shape)} but holds "
            f"{len(data) - start}: fetch the file again"
        )
    return torch.frombuffer(data, dtype=torch.uint8, offset=start).view(shape)


def _read_bytes(path: Path) -> bytearray:
    """The content of a file, writable because torch warns about tensors over read-only memory."""
    if path.suffix != ".gz":
        return bytearray(path.read_bytes())
    try:
        with gzip.open(path) as file:
            return bytearray(file.read())
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}): fetch the file again") from error


def _find(root: Path, name: str) -> Path:
    for path in (root / name, root / f"{name}.gz"):
        if path.exists():
            return path
    raise FileNotFoundError(f"{root} holds neither {name} nor {name}.gz: name the folder of both")


def _pad(images: UInt8[Tensor, "n h w"], size: int) -> UInt8[Tensor, "n size size"]:
    height, width = images.shape[1:]
    if size < max(height, width):
        raise ValueError(
            f"pad_to {size} is smaller than the images of {height} x {width}: "
            f"it must be at least {max(height, width)}"
        )
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(images, (left, size - width - left, top, size - height - top))

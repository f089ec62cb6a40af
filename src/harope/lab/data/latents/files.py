"""Latents in `.npy` files: one pair of files, or two folders with one file per sample."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.digests import paths_digest
from harope.lab.data.dataset import Batch, FiniteLabelledDataset
from harope.lab.data.latents.manifest import count_classes


@dataclass(frozen=True, kw_only=True)
class LatentsDataConfig:
    """Precomputed latents: a folder written by `harope encode`, or features and labels."""

    kind: Literal["latents"] = "latents"
    root: str | None = None
    """Folder with a `manifest.json`; None if `features` and `labels` are set."""
    features: str | None = None
    """A `.npy` file of all latents, or a folder of `0.npy`, `1.npy`, ..."""
    labels: str | None = None
    """A `.npy` file of all labels, or a folder, like `features`."""
    num_classes: int | None = None
    """Number of classes; None for the manifest's, or one more than the largest label."""

    def __post_init__(self) -> None:
        pair = (self.features is not None, self.labels is not None)
        if any(pair) != all(pair) or any(pair) == (self.root is not None):
            raise ValueError(
                f"root is {self.root!r}, features {self.features!r} and labels {self.labels!r}: "
                "set root alone, or both features and labels"
            )


class LatentPairDataset(FiniteLabelledDataset):
    """Latents (channels, height, width) and labels in a pair of `.npy` files.

    The latents are memory-mapped, so that rows are read from disk on demand.

    Args:
        features_path: File of floats (n, c, h, w) or (n, 1, c, h, w).
        labels_path: File of integers (n,) or (n, 1).
        seed: Seed of the shuffles.
        num_classes: Number of classes; None for one more than the largest label.

    Raises:
        ValueError: If a file is damaged, a label is out of range, or the numbers of latents and
            labels differ.
    """

    def __init__(
        self,
        features_path: str | Path,
        labels_path: str | Path,
        seed: int = 0,
        num_classes: int | None = None,
    ):
        self._features = MappedArray(Path(features_path))
        if self._features.array.ndim == 0:
            raise ValueError(f"{features_path} contains one number: pass an array of latents")
        labels = load_labels(Path(labels_path))
        _check_lengths(len(self._features.array), features_path, len(labels), labels_path)
        super().__init__(len(labels), seed)
        self.shape = _item_shape(self._features.array[0], features_path)
        self.num_classes = count_classes(labels, num_classes, Path(labels_path))
        self._labels = torch.from_numpy(labels)
        self._paths = features_path, labels_path

    def files_digest(self, *, times: bool = False) -> str:
        return paths_digest(self._paths, times=times)

    def items(self, indices: Sequence[int]) -> Batch:
        rows = self._features.array[list(indices)].reshape(len(indices), *self.shape)
        return _as_float32(rows), self._labels[torch.as_tensor(indices, dtype=torch.int64)]


class LatentFilesDataset(FiniteLabelledDataset):
    """Latents (channels, height, width) and labels in two folders of `0.npy`, `1.npy`, ...

    This is the format written by fast-DiT's feature extraction. All label files are read on
    opening.

    Args:
        features_dir: Folder of files with floats (c, h, w) or (1, c, h, w).
        labels_dir: Folder of files with one integer (1,).
        seed: Seed of the shuffles.
        num_classes: Number of classes; None for one more than the largest label.

    Raises:
        ValueError: If a file is damaged, a label is out of range, or the numbers of latents and
            labels differ. Reading raises it for latents of different shapes.
    """

    def __init__(
        self,
        features_dir: str | Path,
        labels_dir: str | Path,
        seed: int = 0,
        num_classes: int | None = None,
    ):
        count = _count_arrays(features_dir)
        _check_lengths(count, features_dir, _count_arrays(labels_dir), labels_dir)
        super().__init__(count, seed)
        labels = np.concatenate([load_labels(Path(labels_dir, f"{i}.npy")) for i in range(count)])
        self._features_dir = Path(features_dir)
        self.shape = _item_shape(load_array(self._path(0)), self._path(0))
        self.num_classes = count_classes(labels, num_classes, Path(labels_dir))
        self._labels = torch.from_numpy(labels)
        self._labels_dir = Path(labels_dir)

    def files_digest(self, *, times: bool = False) -> str:
        folders = self._features_dir, self._labels_dir
        paths = (folder / f"{index}.npy" for folder in folders for index in range(len(self)))
        return paths_digest(paths, times=times)

    def items(self, indices: Sequence[int]) -> Batch:
        latents = np.stack([self._read(index) for index in indices])
        return _as_float32(latents), self._labels[torch.as_tensor(indices, dtype=torch.int64)]

    def _path(self, index: int) -> Path:
        return self._features_dir / f"{index}.npy"

    def _read(self, index: int) -> np.ndarray:
        latent = load_array(self._path(index))
        shape = _item_shape(latent, self._path(index))
        if shape != self.shape:
            raise ValueError(
                f"{self._path(index)} has shape {shape} but {self._path(0)} has {self.shape}: "
                "encode all images at one size"
            )
        return latent.reshape(shape)


class MappedArray:
    """Memory-mapped `.npy` file, which reads rows from disk when they are indexed.

    Pickling keeps only the path, so that every worker process maps the file itself.

    Args:
        path: Path of the `.npy` file. It is opened on first use.
    """

    def __init__(self, path: Path):
        self.path = path
        self._array: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        """The memory map; raises ValueError if the file is not a valid `.npy` array."""
        if self._array is None:
            self._array = load_array(self.path, mapped=True)
        return self._array

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_array": None}


def load_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Load a `.npy` file.

    Args:
        path: Path of the file.
        mapped: Whether to memory-map the file instead of reading it.

    Returns:
        The array.

    Raises:
        ValueError: If the file is truncated, damaged or contains Python objects.
    """
    try:
        # Mapping refuses a file that is shorter than its header says, before memory is taken.
        array = np.load(path, mmap_mode="r")
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive of arrays")
        return array if mapped else np.array(array)
    except (EOFError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as a .npy array ({error}): write the file again"
        ) from error


def load_labels(path: Path) -> np.ndarray:
    """Load class labels from a `.npy` file.

    Args:
        path: Path of a file of integers, (n,) or (n, 1).

    Returns:
        Labels, int64 (n,).

    Raises:
        ValueError: If the file is damaged or contains anything but one integer per item.
    """
    labels = load_array(path)
    if labels.dtype.kind not in "iu" or labels.ndim == 0 or labels.size != len(labels):
        raise ValueError(
            f"{path} contains {labels.dtype} of shape {labels.shape}: labels must be integers of "
            "shape (n,) or (n, 1)"
        )
    return labels.reshape(-1).astype(np.int64)


def _check_lengths(
    latents: int, features_path: str | Path, labels: int, labels_path: str | Path
) -> None:
    if latents != labels:
        raise ValueError(
            f"{features_path} contains {latents} latents but {labels_path} {labels} labels: "
            "use features and labels of the same images"
        )


def _item_shape(item: np.ndarray, path: str | Path) -> tuple[int, int, int]:
    """Return the shape (c, h, w) of one latent, which may have a leading axis of length 1."""
    leading, shape = item.shape[:-3], item.shape[-3:]
    if item.dtype.kind != "f" or len(shape) != 3 or leading not in ((), (1,)):
        raise ValueError(
            f"{path} contains {item.dtype} latents of shape {item.shape}: a latent must be floats "
            "of shape (channels, height, width) or (1, channels, height, width)"
        )
    return shape


def _count_arrays(folder: str | Path) -> int:
    with os.scandir(folder) as entries:
        return sum(entry.name.endswith(".npy") for entry in entries)


def _as_float32(latents: np.ndarray) -> Float32[Tensor, "batch channels height width"]:
    return torch.from_numpy(np.asarray(latents, dtype=np.float32))

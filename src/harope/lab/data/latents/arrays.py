"""Reading `.npy` files of latents and labels."""

from pathlib import Path

import numpy as np


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

    Raises:
        ValueError: If the file is truncated, damaged or contains Python objects.
    """
    try:
        return np.load(path, mmap_mode="r" if mapped else None)
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


def count_classes(labels: np.ndarray, num_classes: int | None, path: Path) -> int:
    """Return the number of classes after checking that it covers all labels.

    Args:
        labels: Class labels, (n,).
        num_classes: Number of classes; None for one more than the largest label.
        path: Origin of the labels, for the error message.

    Raises:
        ValueError: If a label is negative or not below `num_classes`.
    """
    count = int(labels.max(initial=-1)) + 1 if num_classes is None else num_classes
    invalid = labels[(labels < 0) | (labels >= count)]
    if len(invalid):
        raise ValueError(
            f"{path} contains label {invalid[0]}, which is not in [0, num_classes {count}): "
            "raise num_classes or correct the labels"
        )
    return count

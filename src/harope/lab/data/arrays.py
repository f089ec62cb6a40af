"""Reading .npy files by rows."""

from pathlib import Path

import numpy as np


class MappedArray:
    """A .npy file whose rows are read from disk when they are asked for.

    Only the path is pickled: every worker process maps the file itself.
    """

    def __init__(self, path: Path):
        self.path = path
        self._array: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        """The memory map. ValueError naming a file that is not a whole .npy array."""
        if self._array is None:
            self._array = load_array(self.path, mapped=True)
        return self._array

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_array": None}


def load_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """A .npy file. ValueError naming the file where it is not a whole one, or holds objects."""
    try:
        return np.load(path, mmap_mode="r" if mapped else None)
    except (EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as .npy ({error}): write it again") from error


def load_labels(path: Path) -> np.ndarray:
    """Class labels (n,) int64 of a .npy file of whole numbers, (n,) or (n, 1)."""
    labels = load_array(path)
    if labels.dtype.kind not in "iu" or labels.ndim == 0 or labels.size != len(labels):
        raise ValueError(
            f"{path} holds {labels.dtype} of shape {labels.shape}: labels must be whole numbers, "
            "one per item"
        )
    return labels.reshape(-1).astype(np.int64)


def class_count(labels: np.ndarray, num_classes: int | None, path: Path) -> int:
    """``num_classes``, or one more than the largest label. ValueError where one is out of range."""
    count = int(labels.max(initial=-1)) + 1 if num_classes is None else num_classes
    wrong = labels[(labels < 0) | (labels >= count)]
    if len(wrong):
        raise ValueError(
            f"{path} holds label {wrong[0]}, which is not in [0, num_classes {count}): "
            "raise num_classes or correct the labels"
        )
    return count

"""Reading of image files where a limited number of them may be damaged."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from harope._utils.untrusted import printable
from harope.lab.data.image_io import read_image_size, read_rgb

T = TypeVar("T")


class TolerantReader:
    """Reads image files below a folder, and counts those that cannot be read.

    Args:
        root: Folder of the files.
        total: Number of files.
        max_unreadable: Fraction of the files, in [0, 1), that may be damaged.

    Raises:
        ValueError: If `max_unreadable` is out of range.
    """

    def __init__(self, root: Path, total: int, max_unreadable: float):
        if not 0 <= max_unreadable < 1:
            raise ValueError(f"max_unreadable {max_unreadable} must lie in [0, 1)")
        self._root, self._total, self._max_fraction = root, total, max_unreadable
        self._damaged: dict[str, None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Damaged files found so far, relative to the folder."""
        return tuple(self._damaged)

    def size(self, name: str) -> tuple[int, int] | None:
        """Read height and width from a file's header.

        Args:
            name: Path of the file relative to the folder.

        Returns:
            Height and width in pixels; None if the file is damaged.

        Raises:
            ValueError: If more than the allowed fraction of files is damaged.
        """
        return self._try(name, read_image_size)

    def read(self, name: str) -> UInt8[np.ndarray, "height width 3"] | None:
        """Read a file as RGB.

        Args:
            name: Path of the file relative to the folder.

        Returns:
            The image; None if the file is damaged.

        Raises:
            ValueError: If more than the allowed fraction of files is damaged.
        """
        return self._try(name, read_rgb)

    def _try(self, name: str, function: Callable[[Path], T]) -> T | None:
        try:
            return function(self._root / name)
        except ValueError as error:
            self._damaged[name] = None
            if len(self._damaged) > self._max_fraction * self._total:
                raise ValueError(
                    f"{error}; {len(self._damaged)} of {self._total} files are damaged, more than "
                    f"the fraction max_unreadable {self._max_fraction}: repair them or increase "
                    f"max_unreadable"
                ) from error
            return None


def format_size(size: tuple[int, int]) -> str:
    """Format height and width as `6 x 5 pixels`.

    Args:
        size: Height and width in pixels.

    Returns:
        The text.
    """
    return f"{size[0]} x {size[1]} pixels"


def skipped_files_note(source: str, names: Sequence[str]) -> str:
    """Describe which damaged files of a source were skipped.

    Args:
        source: Folder of the files.
        names: Names of the damaged files.

    Returns:
        Their number and the first three names, as one sentence.
    """
    shown = ", ".join(names[:3])
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} damaged files of {source} were left out: {printable(shown)}{more}"

"""Pictures of a folder, one by one, with a count of those that are damaged."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")

Found = TypeVar("Found")


class TolerantReader:
    """Reads pictures below a root, and counts those that cannot be read.

    Up to the share `max_unreadable` of `total` may be damaged. Raises ValueError naming the one
    that is too many.
    """

    def __init__(self, root: Path, total: int, max_unreadable: float):
        if not 0 <= max_unreadable < 1:
            raise ValueError(f"max_unreadable {max_unreadable} must lie in [0, 1)")
        self._root, self._total, self._share = root, total, max_unreadable
        self._bad: dict[str, None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Damaged files so far, from the root."""
        return tuple(self._bad)

    def size(self, name: str) -> tuple[int, int] | None:
        """Height and width by the file's header; None where it is damaged."""
        return self._try(name, _size)

    def read(self, name: str) -> UInt8[np.ndarray, "height width 3"] | None:
        """RGB; None where it is damaged."""
        return self._try(name, _read)

    def _try(self, name: str, function: Callable[[Path], Found]) -> Found | None:
        try:
            return function(self._root / name)
        # Damaged pictures raise nearly anything: OSError, SyntaxError, struct.error...
        except Exception as error:
            self._bad[name] = None
            if len(self._bad) > self._share * self._total:
                raise ValueError(
                    f"{self._root / name} cannot be read ({error}): with it {len(self._bad)} of "
                    f"{self._total} files are damaged, more than the share max_unreadable "
                    f"{self._share}: mend them, or raise it"
                ) from error
            return None


def pixels(size: tuple[int, int]) -> str:
    """`6 x 5 pixels`: height, then width."""
    return f"{size[0]} x {size[1]} pixels"


def left_out(source: str, names: Sequence[str]) -> str:
    """How many damaged files of a source are not in a score, and the first of them."""
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} damaged files of {source} were left out: {', '.join(names[:3])}{more}"


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.height, image.width


def _read(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))

"""Compact storage of many short lists of strings."""

from collections.abc import Iterable, Sequence

import numpy as np


class StringTable:
    """Read-only sequence of lists of strings, stored as one byte string and two offset arrays.

    A Python list of a million strings would be copied into every worker process, because
    reference counting writes to each string.

    Args:
        lists: The lists of strings, in order.
    """

    def __init__(self, lists: Iterable[Sequence[str]]):
        lengths, counts, parts = [0], [0], []
        for strings in lists:
            encoded = [string.encode() for string in strings]
            parts += encoded
            lengths += [len(part) for part in encoded]
            counts.append(len(encoded))
        self._bytes = b"".join(parts)
        self._string_offsets = np.cumsum(lengths)
        self._list_offsets = np.cumsum(counts)

    def __len__(self) -> int:
        return len(self._list_offsets) - 1

    def __getitem__(self, index: int) -> list[str]:
        """Return the list of strings at `index`, or raise IndexError if it is out of range."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is not in [0, {len(self)})")
        rows = range(self._list_offsets[index], self._list_offsets[index + 1])
        ends = self._string_offsets
        return [self._bytes[ends[row] : ends[row + 1]].decode() for row in rows]

"""Many short lists of strings in little memory."""

from collections.abc import Iterable, Sequence

import numpy as np


class StringTable:
    """Lists of strings, read by place, kept as bytes and two arrays of offsets.

    A list of a million strings would be copied into every worker process, because counting
    references writes to each of them.
    """

    def __init__(self, lists: Iterable[Sequence[str]]):
        lengths, counts, parts = [0], [0], []
        for texts in lists:
            encoded = [text.encode() for text in texts]
            parts += encoded
            lengths += [len(part) for part in encoded]
            counts.append(len(encoded))
        self._bytes = b"".join(parts)
        self._ends = np.cumsum(lengths)
        self._places = np.cumsum(counts)

    def __len__(self) -> int:
        return len(self._places) - 1

    def __getitem__(self, index: int) -> list[str]:
        """The strings of the list at this place. IndexError past the end."""
        if not 0 <= index < len(self):
            raise IndexError(f"place {index} is not in [0, {len(self)})")
        texts = range(self._places[index], self._places[index + 1])
        return [self._bytes[self._ends[i] : self._ends[i + 1]].decode() for i in texts]

"""Counting of what looks like training data and is not taken."""

import warnings

from harope._utils.untrusted import printable

DEFAULT_MAX_LEFT_OUT = 0.1
"""Fraction of what looks like data that may be left out unless a config says otherwise."""


class LeftOutWarning(UserWarning):
    """Some of what looks like training data is not taken."""


class LeftOut:
    """Count of files or other items that look like training data and are not taken.

    Args:
        source: Folder or file that they belong to.
    """

    def __init__(self, source: object):
        self._source = source
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, reason: str, name: str) -> None:
        """Count an item.

        Args:
            reason: Why it is left out, in the plural, such as "images without metadata".
            name: Name of the item.
        """
        self._counts[reason] = self._counts.get(reason, 0) + 1
        self._first.setdefault(reason, name)

    @property
    def count(self) -> int:
        """Number of items that were left out so far."""
        return sum(self._counts.values())

    def report(self, taken: int, max_left_out: float) -> None:
        """Warn about the items that are left out, if there are any.

        Args:
            taken: Number of items that are taken.
            max_left_out: Largest fraction of all items that may be left out.

        Raises:
            ValueError: If more items are left out.
        """
        if not self.count:
            return
        reasons = "; ".join(
            f"{reason} ({count}, the first: {printable(self._first[reason])})"
            for reason, count in self._counts.items()
        )
        total = taken + self.count
        text = f"{printable(str(self._source))}: {self.count} of {total} are left out: {reasons}"
        if self.count > max_left_out * total:
            raise ValueError(
                f"{text}; this is more than max_left_out {max_left_out}: remove or repair them, or "
                f"raise max_left_out"
            )
        warnings.warn(text, LeftOutWarning, stacklevel=3)

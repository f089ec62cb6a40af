"""Checks of content that comes from elsewhere: names that are printed or opened, sizes of files."""

import os
from pathlib import Path

_MAX_EXPANSION = 100
_ALWAYS_ALLOWED = 2**26


def printable(text: str) -> str:
    """Escape what a terminal would interpret: control characters, and bytes that are not UTF-8.

    Args:
        text: Text that contains names of files or other foreign content.

    Returns:
        The text, with `\\x1b`, `\\n` and the like in place of such characters.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def check_plain_name(name: str, source: object) -> None:
    """Check that a name denotes a file in its own folder, and not elsewhere.

    Args:
        name: Name that stands in a file.
        source: Where the name stands, the first words of the error.

    Raises:
        ValueError: If the name is empty, has a folder or is `.` or `..`.
    """
    if not name or name in (".", "..") or Path(name).name != name or "\\" in name or "\0" in name:
        raise ValueError(f"{source} names the file {name!r}: it must be a name without a folder")


def check_expansion(compressed: int, expanded: int, source: object) -> None:
    """Check the size of compressed content before memory is taken for it.

    Args:
        compressed: Number of compressed bytes.
        expanded: Number of bytes that they are said to expand to.
        source: Where they come from, the first words of the error.

    Raises:
        ValueError: If the content expands to more than 64 MiB and more than 100 times its size,
            which images and tables of numbers do not.
    """
    if expanded > max(_ALWAYS_ALLOWED, _MAX_EXPANSION * compressed):
        raise ValueError(
            f"{source} expands from {compressed:,} to {expanded:,} bytes, more than "
            f"{_MAX_EXPANSION} times its size: it does not look like data, so check where it "
            f"comes from"
        )


def check_file_size(path: str | Path, largest: int) -> None:
    """Check the size of a file before it is read into memory.

    Args:
        path: The file.
        largest: Largest size in bytes.

    Raises:
        ValueError: If the file is larger.
        OSError: If there is no such file.
    """
    size = os.stat(path).st_size
    if size > largest:
        raise ValueError(f"{path} has {size:,} bytes, more than {largest:,}: use a smaller file")

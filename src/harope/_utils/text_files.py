"""Reading UTF-8 text, and files of one JSON value per line, with one kind of error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harope._utils.json_files import parse_json


def read_text(path: str | Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Args:
        path: The file.

    Returns:
        Its text without the byte order mark, and with `\\n` at the end of each line.

    Raises:
        ValueError: If the file is not UTF-8; the message names the line.
        OSError: If the file cannot be opened.
    """
    return decode_text(Path(path).read_bytes(), path)


def decode_text(content: bytes, source: object) -> str:
    """Decode UTF-8 text, with or without a byte order mark.

    Args:
        content: The encoded text.
        source: Where it comes from, the first words of an error: a path, or `FILE: MEMBER`.

    Returns:
        The text without the byte order mark, and with `\\n` at the end of each line.

    Raises:
        ValueError: If the text is not UTF-8; the message names the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{source} line {line} is not UTF-8 ({error.reason}): convert the file"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json_lines(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Read a UTF-8 text file of one JSON value per line, skipping blank lines.

    Args:
        path: The file.

    Yields:
        Location for error messages (`FILE line 3`) and value of each line.

    Raises:
        ValueError: If the file is not UTF-8 or a line is not JSON.
        OSError: If the file cannot be opened.
    """
    # Not splitlines: JSON strings may contain other line separators, which JSON does not escape.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path} line {number}"
            yield where, parse_json(line, where)

"""SHA-256 checksums of the files in a folder, which the program `sha256sum` can check as well."""

import re
from collections.abc import Iterable
from pathlib import Path

from harope._utils.atomic import write_text_atomic
from harope._utils.digests import file_digest

CHECKSUMS_FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write_checksums(folder: Path) -> None:
    """Write the checksums of all files in a folder to its file `SHA256SUMS`.

    Args:
        folder: The folder; subfolders are left out.
    """
    lines = [f"{_checksum(folder / name)}  {name}\n" for name in sorted(_file_names(folder))]
    write_text_atomic(folder / CHECKSUMS_FILE, "".join(lines))


def verify_checksums(folder: Path, names: Iterable[str] | None = None) -> None:
    """Check files of a folder against its checksums, if it has some.

    Args:
        folder: The folder. Without a file `SHA256SUMS` nothing is checked.
        names: Names of the files to check; None for all files of the folder.

    Raises:
        ValueError: If a file is missing, differs from its checksum or has none, naming it.
    """
    path = folder / CHECKSUMS_FILE
    if not path.is_file():
        return
    try:
        listed = dict(_parse(line, path) for line in path.read_text("ascii").splitlines())
        for name in sorted({*listed, *_file_names(folder)} if names is None else names):
            if name not in listed:
                raise ValueError(f"{path} has no checksum of {name}")
            if _checksum(folder / name) != listed[name]:
                raise ValueError(f"{folder / name} is damaged: it differs from its checksum")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is damaged: it is not a list of checksums") from None
    except OSError as error:
        raise ValueError(f"{error.filename or folder} cannot be read: {error.strerror}") from None


def _parse(line: str, path: Path) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{path} is damaged: it is not a list of checksums")
    return match[2], match[1]


def _file_names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if entry.is_file()} - {CHECKSUMS_FILE}


def _checksum(path: Path) -> str:
    return file_digest(path, length=64)

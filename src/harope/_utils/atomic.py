"""Atomic writes: a file or folder either has its complete new content or is as it was before.

Everything is written under a temporary name in the same folder, flushed to the disk and renamed.
Temporary names start with a dot, contain machine and process and end in `.partial`, so that several
processes may write the same path at once: the last one to finish wins.
"""

import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from harope._utils.processes import host_name, is_other_process

SUFFIX = ".partial"
"""Ending of temporary names."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Provide a temporary path to write a file to, and move it to `path` on success.

    Parent folders are created. If the block raises, the temporary file is removed and `path` is
    left as it was.

    Args:
        path: The file to write or replace.

    Yields:
        The temporary path. The block must create a file there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        yield temporary
        _flush_file(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Provide an empty temporary folder to fill, and move it to `folder` on success.

    A folder that exists is replaced completely. Temporary folders that processes of this machine
    left behind when they were killed are removed first, so only one thread of a process may write
    the same folder. If the block raises, its temporary folder is removed and `folder` is left as it
    was.

    Args:
        folder: The folder to write or replace.

    Yields:
        The temporary folder, which exists and is empty.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for entry in list(folder.parent.glob(f".{glob.escape(folder.name)}.*{SUFFIX}")):
        _remove_if_abandoned(entry)
    temporary, replaced = temporary_path(folder), temporary_path(folder)
    temporary.mkdir()
    try:
        yield temporary
        _flush_tree(temporary)
        # A folder that is not empty cannot be replaced by renaming another one over it.
        if folder.exists():
            folder.rename(replaced)
        try:
            temporary.rename(folder)
        except OSError:
            if replaced.exists():
                replaced.rename(folder)
            raise
        _flush_folder(folder.parent)
    finally:
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically.

    Args:
        path: The file to write or replace.
        text: Its new content.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_atomic(
    path: str | Path, value: Any, *, indent: int | None = 2, allow_nan: bool = True
) -> None:
    """Write `value` to `path` as JSON with a final line break, atomically.

    Args:
        path: The file to write or replace.
        value: What `json.dumps` accepts.
        indent: Spaces per level; None writes everything on one line.
        allow_nan: Whether to write NaN and infinity, which other readers of JSON may refuse.

    Raises:
        ValueError: If a number is NaN or infinite and `allow_nan` is false.
    """
    write_text_atomic(path, json.dumps(value, indent=indent, allow_nan=allow_nan) + "\n")


def temporary_path(path: str | Path) -> Path:
    """Return a new name in the folder of `path`: `.NAME.HOST-PROCESS-RANDOM.partial`.

    Args:
        path: The file or folder that the name is for.
    """
    path = Path(path)
    return path.with_name(f".{path.name}.{host_name()}-{os.getpid()}-{uuid4().hex[:8]}{SUFFIX}")


def remove_abandoned(folder: str | Path) -> None:
    """Remove temporary files and folders of killed processes, in `folder` and all below it.

    Call it before this process writes there. What belongs to running processes or to other
    machines stays.

    Args:
        folder: Folder that this process is about to write into.
    """
    for entry in list(Path(folder).rglob(f".*{SUFFIX}")):
        _remove_if_abandoned(entry)


def _remove_if_abandoned(entry: Path) -> None:
    owner = entry.name.removesuffix(SUFFIX).rpartition(".")[2].split("-")
    if len(owner) != 3 or owner[0] != host_name() or not owner[1].isdecimal():
        return
    if is_other_process(int(owner[1])):
        return
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _flush_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            _flush_file(Path(parent, name))
        _flush_folder(Path(parent))


def _flush_file(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Flush the entries of a folder, on systems that can: without this a rename may be lost."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

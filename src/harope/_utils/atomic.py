"""Atomic writes: a file or folder either has its complete new content or is as it was before.

Everything is written under a temporary name in the same folder, flushed to the disk and renamed.
Temporary names start with a dot, contain the process number and end in `.partial`, so that several
processes may write the same path at once: the last one to finish wins.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4


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
    temporary = _temporary(path)
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

    A folder that exists is replaced as a whole. Temporary folders that processes of this machine
    left behind when they were killed are removed first. If the block raises, its temporary folder
    is removed and `folder` is left as it was.

    Args:
        folder: The folder to write or replace.

    Yields:
        The temporary folder, which exists and is empty.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    temporary, replaced = _temporary(folder), _temporary(folder)
    temporary.mkdir()
    try:
        yield temporary
        _flush_tree(temporary)
        # A folder that is not empty cannot be replaced by renaming another one over it.
        if folder.exists():
            folder.rename(replaced)
        temporary.rename(folder)
        _flush_folder(folder.parent)
    finally:
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_atomic(path: str | Path, value: Any, *, indent: int | None = 2) -> None:
    """Write `value` to `path` as JSON with a final line break, atomically.

    Args:
        path: The file to write or replace.
        value: What `json.dumps` accepts.
        indent: Spaces per level; None writes everything on one line.
    """
    write_text_atomic(path, json.dumps(value, indent=indent) + "\n")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid4().hex[:8]}.partial")


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary folders of `folder` whose processes no longer run."""
    prefix = f".{folder.name}."
    for entry in list(folder.parent.iterdir()):
        if entry.name.startswith(prefix) and entry.name.endswith(".partial"):
            number = entry.name.removeprefix(prefix).partition("-")[0]
            if number.isdecimal() and not _runs(int(number)):
                shutil.rmtree(entry, ignore_errors=True)


def _runs(process: int) -> bool:
    # In a container, training often has the same number again after a restart. No process writes
    # the same folder twice at once, so what has its own number was left by a former one.
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


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

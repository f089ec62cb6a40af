"""A lock that keeps other processes out of a folder and says who holds it.

The lock is a file `.lock` in the folder, which the operating system locks for as long as the
process lives. The file of a process that was killed is therefore stale, and the next process takes
it over, whatever machine it runs on. Where files cannot be locked (Windows, some network file
systems), the file itself is the lock. It is then stale if its process does not run any more, which
only the same machine can tell.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from harope._utils.json_files import parse_json, validate
from harope._utils.processes import host_name, is_other_process

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # mypy takes it for a module

LOCK_FILE = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class LockHolder:
    """The process that holds a lock."""

    host: str
    """Name of its machine."""
    pid: int
    """Its process id."""
    since: str
    """Local date and time at which it took the lock, in ISO format."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[LockHolder | None]:
    """Keep other processes out of a folder inside the `with` block.

    The folder is created if it is missing, and removed afterwards if nothing else was written.

    Args:
        folder: The folder.

    Yields:
        The holder of a stale lock that was taken over, or None.

    Raises:
        ValueError: If another process holds the lock; names process, machine and time.
    """
    folder = Path(folder)
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    descriptor = None
    try:
        descriptor, former = _acquire(path)
        yield former
    finally:
        if descriptor is not None:
            # Removed before it is unlocked, so that nobody else's lock is removed.
            path.unlink(missing_ok=True)
            os.close(descriptor)
        for parent in created:
            # Folders that are not empty stay.
            with suppress(OSError):
                parent.rmdir()


def _acquire(path: Path) -> tuple[int, LockHolder | None]:
    """Return the descriptor of the lock file, and the holder of a stale lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            former, supported = _read_holder(path), _lock_file(descriptor, path)
            if not supported:
                _check_stale(path, former)
            # Another process may have removed the file between opening and locking it.
            if _is_at(descriptor, path):
                os.truncate(descriptor, 0)
                holder = LockHolder(host_name(), os.getpid(), f"{datetime.now():%Y-%m-%d %H:%M:%S}")
                os.write(descriptor, json.dumps(asdict(holder)).encode())
                return descriptor, former
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock_file(descriptor: int, path: Path) -> bool:
    """Lock an open file; return False if the system cannot."""
    if fcntl is None:
        return False
    try:
        # A record lock, which the workers that a process forks do not inherit.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        holder = _read_holder(path) or "another process"
        raise ValueError(
            f"{path.parent} is in use by {holder}: wait until it ends, or stop it"
        ) from None
    return True


def _check_stale(path: Path, holder: LockHolder | None) -> None:
    """Raise ValueError unless the holder's process is known to have ended."""
    if holder is None or (holder.host == host_name() and not is_other_process(holder.pid)):
        return
    raise ValueError(
        f"{path.parent} is in use by {holder}: wait until it ends, or remove {path} if it has ended"
    )


def _read_holder(path: Path) -> LockHolder | None:
    """Return what a lock file says; None if it is new or was written only partly."""
    with suppress(OSError, ValueError):
        return validate(parse_json(path.read_bytes(), path), LockHolder, path)
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False

"""Faults of a process: death and full disks at every point at which it changes files.

A trial is a command in a forked process. An audit hook sees its points: opening a file for writing,
creating, renaming and removing files and folders, flushing to disk, and the middle of each line
that is appended to a file. At one chosen point the process dies as by `kill -9`, or the disk is
full from that point on. Only files below the folder of the trial count.

Import this module before others: a fork needs what is loaded already.
"""

import errno
import io
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Fault = Literal["kill", "full"]
Work = Callable[[], int]
"""A command: returns its exit code."""

KILLED = 137
"""Exit code of a process that died at a point."""
CRASHED = 99
"""Exit code of a command that raised an exception."""
TIMEOUT = 180.0
"""Seconds after which a trial is ended."""


class Injector:
    """Counts the points of this process and causes the fault at one of them.

    An audit hook cannot be removed, so there is one injector per process, which is idle unless a
    trial has started it.
    """

    def __init__(self) -> None:
        self.root: str | None = None
        self.points: list[str] = []
        self.fault: Fault = "kill"
        self.at: int | None = None
        self.full = False

    def start(self, root: Path, fault: Fault, at: int | None) -> None:
        """Begin to count; cause the fault at point number `at`, from 1 (None: never)."""
        self.root, self.fault, self.at = str(root), fault, at

    def owns(self, path: Any) -> bool:
        """Return whether a path lies below the trial's folder."""
        if self.root is None or not isinstance(path, (str, bytes, os.PathLike)):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.root)

    def point(self, what: str) -> None:
        """Pass a point: die here, or raise the error of a full disk."""
        self.points.append(what)
        if len(self.points) == self.at:
            if self.fault == "kill":
                os._exit(KILLED)
            self.full = True
        # Removing and renaming files needs no space.
        if self.full and not what.startswith(("os.remove", "os.rmdir", "os.rename")):
            raise OSError(errno.ENOSPC, "No space left on device")

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Handle an event of the interpreter, see `sys.addaudithook`."""
        if self.root is None:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = (
                any(letter in mode for letter in "wax+")
                if isinstance(mode, str)
                else flags & (os.O_WRONLY | os.O_RDWR)
            )
            # The event files of TensorBoard are for people, and repeated as they are.
            if writes and self.owns(path) and "tfevents" not in os.fsdecode(path):
                self.point(f"open {self._name(path)}")
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            path, descriptor = arguments[0], arguments[-1]
            # Names relative to an open folder come from removing a tree.
            inside = isinstance(descriptor, int) and descriptor >= 0
            if inside or self.owns(path):
                self.point(f"{event} {self._name(path)}")

    def _name(self, path: Any) -> str:
        name = os.fsdecode(path)
        shown = os.path.relpath(name, self.root) if os.path.isabs(name) else name
        return re.sub(r"\.[^./]*-\d+-[0-9a-f]{8}\.partial", ".partial", shown)


INJECTOR = Injector()


class _TornFile(io.TextIOWrapper):
    """A text file for appending that passes a point in the middle of every write."""

    def write(self, text: str) -> int:
        half = len(text) // 2
        super().write(text[:half])
        self.flush()
        INJECTOR.point(f"append {INJECTOR._name(self.buffer.name)}")
        super().write(text[half:])
        return len(text)


def install() -> None:
    """Install the hooks in this process, once."""
    sys.addaudithook(INJECTOR.hear)
    fsync, path_open = os.fsync, Path.open

    def counted_fsync(descriptor: int) -> None:
        if INJECTOR.owns(_path_of(descriptor)):
            INJECTOR.point(f"flush {INJECTOR._name(_path_of(descriptor))}")
        fsync(descriptor)

    def torn_open(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if mode == "a" and INJECTOR.owns(self):
            return _TornFile(path_open(self, "ab"), encoding="utf-8")
        return path_open(self, mode, *rest, **options)

    os.fsync = counted_fsync
    Path.open = torn_open  # type: ignore[method-assign]  # the hook of this test


def _path_of(descriptor: int) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    code: int
    """Exit code; the negative number of the signal that ended it."""
    text: str
    """What it printed to stdout and stderr."""
    points: tuple[str, ...]
    """Points that it passed, if it ended by itself."""

    @property
    def is_refusal(self) -> bool:
        """Whether it ended with one line of error, as every refusal must."""
        lines = self.text.strip().splitlines()
        # What a run of a comparison prints becomes part of the comparison's own error.
        errors = [line for line in lines if "error:" in line] or lines
        return self.code == 2 and len(errors) == 1 and "Traceback" not in self.text


def trial(
    work: Work,
    root: Path,
    scratch: Path,
    *,
    fault: Fault = "kill",
    at: int | None = None,
    signal_after: float | None = None,
    number: int = signal.SIGKILL,
) -> Outcome:
    """Run a command in a fork of this process.

    Args:
        work: The command.
        root: Folder whose changes are points.
        scratch: Folder outside of root for the output.
        fault: What happens at the chosen point.
        at: Number of the point, from 1; None for no fault.
        signal_after: Seconds after which a signal is sent.
        number: Number of the signal.
    """
    log, listing = scratch / "output.txt", scratch / "points.txt"
    listing.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _run_child(work, root, log, listing, fault, at)
    began = time.monotonic()
    while True:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            break
        elapsed = time.monotonic() - began
        if signal_after is not None and elapsed >= signal_after:
            os.kill(child, number)
            signal_after = None
        if elapsed > TIMEOUT:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    points = tuple(listing.read_text().splitlines()) if listing.exists() else ()
    code = os.waitstatus_to_exitcode(status)
    return Outcome(code, log.read_text(errors="replace"), points)


def _run_child(
    work: Work, root: Path, log: Path, listing: Path, fault: Fault, at: int | None
) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # Under pytest they are replaced by files of its own.
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    INJECTOR.start(root, fault, at)
    try:
        code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = CRASHED
    INJECTOR.root = None
    sys.stdout.flush()
    sys.stderr.flush()
    listing.write_text("\n".join(INJECTOR.points))
    os._exit(code)

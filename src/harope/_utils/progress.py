"""Progress of work that takes more than seconds, on stderr: a bar, or a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

_FIRST_LINE = 10.0
"""Seconds before the first line where there is no terminal."""
_BETWEEN_LINES = 60.0
"""Longest time between lines, in seconds; it grows from `_FIRST_LINE`."""
_BAR_DELAY = 1.0
"""Seconds before a bar is shown, so that short work shows none."""

_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def hidden_progress(hide: bool = True) -> Iterator[None]:
    """Hide all progress inside a `with` block, such as for `--quiet`.

    Args:
        hide: Whether to hide it.
    """
    token = _hidden.set(hide or _hidden.get())
    try:
        yield
    finally:
        _hidden.reset(token)


def print_progress(line: str) -> None:
    """Print a line of progress to stderr, unless progress is hidden.

    Args:
        line: What is being done now.
    """
    if not _hidden.get():
        print(line, file=sys.stderr, flush=True)


class Progress:
    """Progress of work that consists of parts, with the time that is left.

    On a terminal it is a bar; otherwise, such as in a log file, it is a line after 10 seconds and
    then at most every minute.

    Args:
        total: Number of parts.
        title: What the parts are, in the plural, or what is being done.
        done: Number of parts that were done before.
        quiet: Whether to show nothing.
    """

    def __init__(self, total: int, title: str, *, done: int = 0, quiet: bool = False) -> None:
        self.total, self.title, self.done = total, title, done
        self._first, self._quiet = done, quiet or _hidden.get()
        self._note = ""
        self._started = time.monotonic()
        self._interval = _FIRST_LINE
        self._next_line = self._started + self._interval
        self._bar = None
        if not self._quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, desc=title, delay=_BAR_DELAY)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def update(self, count: int = 1) -> None:
        """Report that parts are done.

        Args:
            count: Number of parts since the last call.
        """
        self.done += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(count)
        elif not self._quiet and now >= self._next_line:
            self._interval = min(2 * self._interval, _BETWEEN_LINES)
            self._next_line = now + self._interval
            print_progress(f"harope: {self.line(now - self._started)}")

    def note(self, text: str) -> None:
        """Set a remark that is shown with the progress.

        Args:
            text: Such as the current loss.
        """
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def line(self, seconds: float) -> str:
        """Describe the progress in one line.

        Args:
            seconds: Time since the start.

        Returns:
            Such as "samples: 12 of 64, 2.5 s each, 2 min 10 s left".
        """
        parts = [f"{self.title}: {self.done} of {self.total}"]
        recent = self.done - self._first
        if recent > 0 and seconds > 0:
            each = seconds / recent
            parts.append(f"{each:.1f} s each" if each >= 1 else f"{1 / each:.1f} per second")
            parts.append(f"{format_seconds(each * (self.total - self.done))} left")
        return ", ".join([*parts, self._note] if self._note else parts)

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Remove the bar inside a `with` block that prints lines."""
        if self._bar is not None:
            self._bar.clear()
        yield
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def format_seconds(seconds: float) -> str:
    """Format a duration for people.

    Args:
        seconds: The duration.

    Returns:
        Such as "45 s", "2 min 10 s" or "3 h 5 min".
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

"""Lines on stderr: errors, warnings, and what libraries log."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from harope._utils.untrusted import printable

LEVELS = ("debug", "info", "warning", "error")
"""Levels of `--log-level`, from most to fewest messages."""

_VERBOSITY_VARIABLES = ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY")
"""Environment variables from which libraries set the level of their loggers when imported."""

_ADVICE = {
    FileNotFoundError: "does not exist; check the path",
    FileExistsError: "exists already; choose another path",
    IsADirectoryError: "is a folder; pass a file",
    NotADirectoryError: "is not a folder; pass a folder",
    PermissionError: "cannot be opened, because its permissions forbid it; change them",
}
"""What is wrong with a file, and what to do, by kind of error."""

_MAX_LENGTH = 1000
"""Number of characters of a message that are shown."""


def one_line(error: object) -> str:
    """Return a message as one printable line of limited length.

    Args:
        error: An exception or a text.

    Returns:
        The line; the name of the exception's class if it has no message.
    """
    lines = _text(error).splitlines()
    text = " ".join(line.strip() for line in lines) if lines else type(error).__name__
    # A value that does not fit may be of any length.
    half = _MAX_LENGTH // 2
    shown = text if len(text) <= _MAX_LENGTH else f"{text[:half]} ... {text[-half:]}"
    return printable(shown)


def _text(error: object) -> str:
    """Return the text of an error; those of the operating system name the file first."""
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return str(error)
    for kind, advice in _ADVICE.items():
        if isinstance(error, kind):
            return f"{error.filename} {advice}"
    return f"{error.filename}: {error.strerror}"


@contextmanager
def warnings_as_lines(level: str) -> Iterator[None]:
    """Print each warning of Python as one line, and let libraries log from a level on.

    Args:
        level: One of `LEVELS`; with `error`, warnings are not shown.
    """
    shown: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = f"harope: warning: {one_line(message)}"
        if level != "error" and text not in shown:
            shown.add(text)
            print(text, file=sys.stderr, flush=True)

    with warnings.catch_warnings(), _library_logs(level):
        warnings.showwarning = show
        if not sys.warnoptions:
            warnings.simplefilter("always", UserWarning)
        yield


@contextmanager
def _library_logs(level: str) -> Iterator[None]:
    """Let libraries log from a level on; at `warning`, their own defaults are kept."""
    if level == "warning":
        yield
        return
    for variable in _VERBOSITY_VARIABLES:
        os.environ.setdefault(variable, level)
    logger, handler = logging.getLogger(), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("harope: %(levelname)s: %(name)s: %(message)s"))
    before = logger.level
    logger.setLevel(level.upper())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)

"""The hint of an error about an unknown name: the known name that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to `name`, or None if none is similar.

    Args:
        name: The unknown name.
        known: All names that would have been right.
    """
    return next(iter(get_close_matches(name, list(known), n=1)), None)


def suggest(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return a hint for a name that is not known.

    Args:
        name: The unknown name.
        known: All names that would have been right.
        otherwise: The hint if no known name is similar. By default it lists all of them.

    Returns:
        `did you mean 'NAME'?`, or `otherwise`.
    """
    known = list(known)
    match = closest(name, known)
    if match is not None:
        return f"did you mean {match!r}?"
    return f"use one of {', '.join(known)}" if otherwise is None else otherwise

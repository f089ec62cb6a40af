"""Conversion of command-line text into values."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def parse_fields(words: list[str]) -> dict[str, str]:
    """Parse configuration fields, such as `--a 1 --b=2` into {"a": "1", "b": "2"}.

    Args:
        words: Arguments that the parser of the command does not know.

    Returns:
        Values by field, as text.

    Raises:
        ValueError: A field has no value, or a value has no field.
    """
    fields: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ValueError(
                f"argument {word!r} is not expected; write configuration fields as --FIELD VALUE"
            )
        name, has_value, value = word[2:].partition("=")
        if not has_value:
            if not rest or rest[0].startswith("--"):
                raise ValueError(f"field {word} has no value; write {word} VALUE")
            value = rest.pop(0)
        fields[name] = value
    return fields


def parse_list(option: str, text: str, convert: Callable[[str], T], example: str) -> tuple[T, ...]:
    """Parse a comma-separated list of numbers.

    Args:
        option: Name of the option, for the error message.
        text: List as the user wrote it.
        convert: Conversion of one item; raises ValueError for an invalid one.
        example: A valid list, for the error message.

    Returns:
        Converted items; at least one.

    Raises:
        ValueError: An item is invalid.
    """
    try:
        return tuple(convert(word) for word in text.split(","))
    except ValueError:
        kind = "integers" if convert is int else "numbers"
        raise ValueError(
            f"{option} {text!r} must be a comma-separated list of {kind}, such as {example}"
        ) from None

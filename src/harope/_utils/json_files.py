"""Reading JSON with one kind of error: a ValueError that names file, field, value and expectation.

`parse_json` and `load_json` need the standard library alone; `read_json` and `validate` check
types by pydantic.
"""

import json
import reprlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

_MAX_SHOWN = 80


def parse_json(text: str | bytes, source: object) -> Any:
    """Parse JSON.

    Args:
        text: The text; bytes are UTF-8.
        source: Where it comes from, the first words of an error: a path, or `FILE line 3`.

    Raises:
        ValueError: If the text is not JSON or not UTF-8, or is nested too deeply.
    """
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError(f"{source} is not JSON: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{source} is not JSON: {error}") from None


def load_json(path: str | Path) -> Any:
    """Read a JSON file of any content.

    Args:
        path: The file.

    Returns:
        What the file contains: a dict, list, string, number, boolean or None.

    Raises:
        ValueError: If the file cannot be read, or as `parse_json` says.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"{path} cannot be read: {reason}") from None
    return parse_json(content, path)


@overload
def read_json(path: str | Path, expected: type[T]) -> T: ...
@overload
def read_json(path: str | Path, expected: Any) -> Any: ...
def read_json(path: str | Path, expected: Any) -> Any:
    """Read a JSON file of a known type.

    Args:
        path: The file.
        expected: What it holds: a dataclass, a typed dictionary, `dict[str, int]`, ...

    Raises:
        ValueError: If the file cannot be read or is not JSON, or a field is missing or has another
            type. The message names the file, the field, its value and what is expected there.
    """
    return validate(load_json(path), expected, path)


@overload
def validate(value: Any, expected: type[T], source: object) -> T: ...
@overload
def validate(value: Any, expected: Any, source: object) -> Any: ...
def validate(value: Any, expected: Any, source: object) -> Any:
    """Return `value` as the expected type, after the conversions that pydantic makes.

    Args:
        value: What was parsed from JSON.
        expected: Any type that pydantic knows.
        source: Where the value comes from, the first words of an error.

    Raises:
        ValueError: As `read_json` says.
    """
    from pydantic import ValidationError

    try:
        return _adapter(expected).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{source}: {first_error(error)}") from None
    except RecursionError:
        raise ValueError(f"{source}: the values are nested too deeply") from None


def first_error(error: "ValidationError", *, skip: int = 0) -> str:
    """Describe the first error that pydantic found: its field, the value, what is expected.

    Args:
        error: What pydantic raised.
        skip: Number of leading parts of the field's path to leave out, such as the tag of a union.
    """
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"][skip:])
    if first["type"] == "missing":
        return f"{field} is missing"
    message = first["msg"].removeprefix("Value error, ")
    # Errors of a dataclass' own checks name their values.
    shown = "" if first["type"] == "value_error" else f", got {shorten(first['input'])}"
    return f"{field}: {message}{shown}" if field else f"{message}{shown}"


def shorten(value: Any) -> str:
    """Return the representation of a value, at most 80 characters long.

    Args:
        value: Any object.
    """
    limits = reprlib.Repr()
    limits.maxstring = limits.maxother = _MAX_SHOWN
    text = limits.repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


@cache
def _adapter(expected: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(expected)

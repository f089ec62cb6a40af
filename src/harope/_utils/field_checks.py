"""Checks of the numbers in configurations. NaN and infinity fail all of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """A range of numbers that a field may have."""

    words: str
    """The rule for a number, as it follows "must" in an error."""
    contains: Callable[[float], bool]
    """Whether a finite number is in the range."""


POSITIVE = Range("be positive and finite", lambda value: value > 0)
NOT_NEGATIVE = Range("not be negative or infinite", lambda value: value >= 0)
AT_LEAST_ONE = Range("be at least 1 and finite", lambda value: value >= 1)
FRACTION = Range("lie in [0, 1)", lambda value: 0 <= value < 1)
POSITIVE_FRACTION = Range("be above 0 and at most 1", lambda value: 0 < value <= 1)
UNIT_INTERVAL = Range("lie in [0, 1]", lambda value: 0 <= value <= 1)


def check_range(config: object, allowed: Range, *names: str) -> None:
    """Check that fields are finite numbers of a range.

    Args:
        config: Object with the fields.
        allowed: Range of all of them.
        names: Names of fields; those that are None are skipped.

    Raises:
        ValueError: If one is not, naming it and its value.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not (math.isfinite(value) and allowed.contains(value)):
            raise ValueError(f"{name} {value} must {allowed.words}")


def check_finite_fields(config: Any, path: str = "") -> None:
    """Check that no number of a configuration is NaN or infinite.

    Args:
        config: A dataclass, whose fields may be dataclasses, dictionaries, tuples and lists.
        path: Path of the configuration in a larger one, for the error.

    Raises:
        ValueError: If a number is not finite, naming the path of its field.
    """
    if is_dataclass(config):
        items = [(item.name, getattr(config, item.name)) for item in fields(config)]
    elif isinstance(config, dict):
        items = list(config.items())
    elif isinstance(config, (list, tuple)):
        items = [(str(index), value) for index, value in enumerate(config)]
    else:
        if isinstance(config, float) and not math.isfinite(config):
            raise ValueError(f"{path} is {config}, but must be a finite number")
        return
    for name, value in items:
        check_finite_fields(value, f"{path}.{name}" if path else str(name))

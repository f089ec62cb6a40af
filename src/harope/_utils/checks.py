"""Checks of the numbers in configurations. NaN and infinity fail all of them."""

import math
from dataclasses import fields, is_dataclass
from typing import Any


def check_positive(config: object, *names: str) -> None:
    """Check that fields are positive numbers.

    Args:
        config: Object with the fields.
        names: Names of fields; those that are None are skipped.

    Raises:
        ValueError: If one is not, naming it and its value.
    """
    for name, value in _numbers(config, names):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} {value} must be positive{_finite(value)}")


def check_not_negative(config: object, *names: str) -> None:
    """Check that fields are numbers of at least 0.

    Args:
        config: Object with the fields.
        names: Names of fields; those that are None are skipped.

    Raises:
        ValueError: If one is not, naming it and its value.
    """
    for name, value in _numbers(config, names):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} {value} must not be negative{_finite(value)}")


def check_at_least_one(config: object, *names: str) -> None:
    """Check that fields are numbers of at least 1.

    Args:
        config: Object with the fields.
        names: Names of fields; those that are None are skipped.

    Raises:
        ValueError: If one is not, naming it and its value.
    """
    for name, value in _numbers(config, names):
        if not 1 <= value < math.inf:
            raise ValueError(f"{name} {value} must be at least 1{_finite(value)}")


def check_fraction(config: object, *names: str) -> None:
    """Check that fields are numbers in [0, 1).

    Args:
        config: Object with the fields.
        names: Names of fields; those that are None are skipped.

    Raises:
        ValueError: If one is not, naming it and its value.
    """
    for name, value in _numbers(config, names):
        if not 0 <= value < 1:
            raise ValueError(f"{name} {value} must lie in [0, 1)")


def check_unit_interval(config: object, *names: str) -> None:
    """Check that fields are numbers in [0, 1].

    Args:
        config: Object with the fields.
        names: Names of fields; those that are None are skipped.

    Raises:
        ValueError: If one is not, naming it and its value.
    """
    for name, value in _numbers(config, names):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} {value} must lie in [0, 1]")


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


def _numbers(config: object, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    values = [(name, getattr(config, name)) for name in names]
    return [(name, value) for name, value in values if value is not None]


def _finite(value: int | float) -> str:
    return "" if math.isfinite(value) else " and finite"

"""Checks of arguments: a ValueError that names the argument, its value and what is expected."""

import math
import operator
import types
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from numbers import Real
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from harope._utils.json_files import shorten


def check_integer(name: str, value: object, least: int | None = None) -> None:
    """Raise ValueError unless a value is a whole number, and not below `least`.

    Args:
        name: Name of the argument.
        value: Its value; booleans are no numbers.
        least: Smallest value that is allowed; None for no limit.
    """
    expected = "a whole number" if least is None else f"a whole number of at least {least}"
    if not _is_integer(value) or (least is not None and value < least):
        raise ValueError(f"{name} must be {expected}, got {shorten(value)}")


def check_real(name: str, value: object, least: float | int = -math.inf) -> None:
    """Raise ValueError unless a value is a finite number, and not below `least`.

    Args:
        name: Name of the argument.
        value: Its value; booleans are no numbers.
        least: Smallest value that is allowed.
    """
    limit = "" if least == -math.inf else f" of at least {least:g}"
    if not _is_finite(value) or value < least:
        raise ValueError(f"{name} must be a finite number{limit}, got {shorten(value)}")


def check_sizes(name: str, value: object, least: int | None = None) -> None:
    """Raise ValueError unless a value is a list or tuple of whole numbers.

    Args:
        name: Name of the argument.
        value: Its value.
        least: Smallest number that is allowed; None for no limit.
    """
    if not isinstance(value, list | tuple) or not all(map(_is_integer, value)):
        raise ValueError(f"{name} must be a tuple of whole numbers, got {shorten(value)}")
    if least is not None and any(size < least for size in value):
        raise ValueError(f"{name} must not have numbers below {least}, got {shorten(value)}")


def check_sequence(name: str, value: object) -> None:
    """Raise ValueError unless a value is a list, tuple, range or other sequence, but no text.

    Args:
        name: Name of the argument.
        value: Its value.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"{name} must be a sequence, got {shorten(value)}")


def check_tensor(name: str, value: object, axes: int | None = None) -> None:
    """Raise ValueError unless a value is a tensor with this number of axes.

    Args:
        name: Name of the argument.
        value: Its value.
        axes: Number of axes; None for any.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor, got {shorten(value)}")
    if axes is not None and value.ndim != axes:
        raise ValueError(f"{name} must have {axes} axes, got the shape {tuple(value.shape)}")


def check_module(name: str, value: object) -> None:
    """Raise ValueError unless a value is a module of PyTorch.

    Args:
        name: Name of the argument.
        value: Its value.
    """
    if not isinstance(value, nn.Module):
        raise ValueError(f"{name} must be a torch.nn.Module, got {shorten(value)}")


def check_fields(config: Any) -> None:
    """Raise ValueError unless every field of a dataclass has a value of its annotated type.

    Numbers must be finite; whole numbers are allowed where fractions are, but booleans are not.

    Args:
        config: Instance of a dataclass.
    """
    hints = _hints(config.__class__)
    for field in fields(config):
        value, expected = getattr(config, field.name), hints[field.name]
        if not _fits(value, expected):
            if get_origin(expected) is Literal and isinstance(value, str):
                known = ", ".join(map(str, get_args(expected)))
                raise ValueError(f"{field.name} {shorten(value)} is unknown: use one of {known}")
            raise ValueError(f"{field.name} must be {_describe(expected)}, got {shorten(value)}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: object, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if kind in (int, float):
        return _is_integer(value) if kind is int else _is_finite(value)
    return kind is Any or isinstance(value, kind)


def _describe(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part) for part in parts)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin is tuple:
        if parts[-1] is Ellipsis:
            return f"a tuple, each item {_describe(parts[0])}"
        return f"a tuple of {len(parts)} items, each {_describe(parts[0])}"
    names = {
        int: "a whole number",
        float: "a finite number",
        bool: "true or false",
        str: "text",
        type(None): "None",
    }
    return names.get(kind, "a dictionary" if origin is dict else str(kind))


def _is_integer(value: Any) -> TypeGuard[int]:
    # Sizes are symbols while a program is exported.
    if isinstance(value, int | torch.SymInt):
        return not isinstance(value, bool)
    if isinstance(value, Tensor):
        return False
    try:
        operator.index(value)
    except (TypeError, RuntimeError):
        return False
    return True


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)

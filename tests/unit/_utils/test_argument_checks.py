"""Arguments are refused by name, with their value and what is expected."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch

from harope._utils.argument_checks import (
    check_fields,
    check_integer,
    check_real,
    check_sequence,
    check_sizes,
    check_tensor,
)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, torch.tensor(1), [1]])
def test_only_whole_numbers_are_integers(value):
    check_integer("steps", np.int64(3), 3)
    with pytest.raises(ValueError, match=r"steps must be a whole number, got"):
        check_integer("steps", value)


def test_integers_have_a_smallest_value():
    with pytest.raises(ValueError, match=r"steps must be a whole number of at least 2, got 1"):
        check_integer("steps", 1, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1", None])
def test_only_finite_numbers_are_real(value):
    check_real("scale", 2, 0)
    check_real("scale", np.float32(0.5))
    with pytest.raises(ValueError, match=r"scale must be a finite number, got"):
        check_real("scale", value)


def test_sequences_are_no_text():
    check_sequence("seeds", range(3))
    for value in ("12", b"1", 1, {1: 2}):
        with pytest.raises(ValueError, match=r"seeds must be a sequence, got"):
            check_sequence("seeds", value)


def test_sizes_and_tensors_are_checked():
    check_sizes("shape", torch.Size([2, 3]), 1)
    with pytest.raises(ValueError, match=r"shape must not have numbers below 1, got \[2, 0\]"):
        check_sizes("shape", [2, 0], 1)
    with pytest.raises(ValueError, match=r"x must have 2 axes, got the shape \(3,\)"):
        check_tensor("x", torch.zeros(3), 2)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One field of every kind."""

    count: int = 1
    rate: float = 1
    flag: bool = False
    name: str | None = None
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = ()
    pair: tuple[int, int] | None = None
    options: dict[str, Any] | None = None


def test_fields_of_their_types_pass():
    check_fields(Config())
    check_fields(Config(rate=0.5, name="x", kind="b", sizes=(1, 2, 3), pair=(1, 2), options={}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1.0}, r"count must be a whole number, got 1.0"),
        ({"count": True}, r"count must be a whole number, got True"),
        ({"rate": float("nan")}, r"rate must be a finite number, got nan"),
        ({"flag": 1}, r"flag must be true or false, got 1"),
        ({"name": 3}, r"name must be text or None, got 3"),
        ({"kind": "c"}, r"kind 'c' is unknown: use one of a, b"),
        ({"kind": torch.ones(2)}, r"kind must be 'a' or 'b', got tensor"),
        ({"sizes": [1]}, r"sizes must be a tuple, each item a whole number, got \[1\]"),
        ({"sizes": (1, "2")}, r"sizes must be a tuple, each item a whole number"),
        ({"pair": (1,)}, r"pair must be a tuple of 2 items, each a whole number or None"),
        ({"options": {1: 2}}, r"options must be a dictionary or None"),
    ],
)
def test_fields_of_other_types_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        check_fields(Config(**values))

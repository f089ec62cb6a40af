from dataclasses import dataclass, field
from typing import Any

import pytest

from harope._utils.field_checks import (
    AT_LEAST_ONE,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    UNIT_INTERVAL,
    check_finite_fields,
    check_range,
)

NAN, INF = float("nan"), float("inf")


@dataclass
class Part:
    x: Any
    options: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[Any, ...] = ()


@pytest.mark.parametrize(
    ("allowed", "good", "bad", "words"),
    [
        (POSITIVE, [1e-9, 3, None], [0, -1, NAN, INF], "x .* must be positive"),
        (NOT_NEGATIVE, [0, 3, None], [-1e-9, NAN, INF], "x .* must not be negative"),
        (AT_LEAST_ONE, [1, None], [0.5, 0, NAN, INF], "x .* must be at least 1"),
        (FRACTION, [0, 0.5, None], [1, -0.1, NAN, INF], r"x .* must lie in \[0, 1\)"),
        (UNIT_INTERVAL, [0, 1, None], [1.1, -0.1, NAN, INF], r"x .* must lie in \[0, 1\]"),
    ],
)
def test_numbers_in_range_pass_and_others_are_named(allowed, good, bad, words):
    for value in good:
        check_range(Part(value), allowed, "x")
    for value in bad:
        with pytest.raises(ValueError, match=words):
            check_range(Part(value), allowed, "x")


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (Part(NAN), "x"),
        (Part(Part(INF)), r"x\.x"),
        (Part(0, {"theta": -INF}), r"options\.theta"),
        (Part(0, sizes=(1, [NAN])), r"sizes\.1\.0"),
    ],
)
def test_numbers_that_are_not_finite_are_named_by_their_path(part, path):
    with pytest.raises(ValueError, match=rf"^{path} is -?(nan|inf), but must be a finite number"):
        check_finite_fields(part)
    check_finite_fields(Part(1.0, {"a": "inf"}, (1, None, True)))

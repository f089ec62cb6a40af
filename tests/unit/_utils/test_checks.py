from dataclasses import dataclass, field
from typing import Any

import pytest

from harope._utils.checks import (
    check_at_least_one,
    check_finite_fields,
    check_fraction,
    check_not_negative,
    check_positive,
)

NAN, INF = float("nan"), float("inf")


@dataclass
class Part:
    x: Any
    options: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[Any, ...] = ()


@pytest.mark.parametrize(
    ("check", "good", "bad", "words"),
    [
        (check_positive, [1e-9, 3, None], [0, -1, NAN, INF], "x .* must be positive"),
        (check_not_negative, [0, 3, None], [-1e-9, NAN, INF], "x .* must not be negative"),
        (check_at_least_one, [1, None], [0.5, 0, NAN, INF], "x .* must be at least 1"),
        (check_fraction, [0, 0.5, None], [1, -0.1, NAN, INF], r"x .* must lie in \[0, 1\)"),
    ],
)
def test_numbers_in_range_pass_and_others_are_named(check, good, bad, words):
    for value in good:
        check(Part(value), "x")
    for value in bad:
        with pytest.raises(ValueError, match=words):
            check(Part(value), "x")


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

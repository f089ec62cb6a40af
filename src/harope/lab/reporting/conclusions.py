"""Sentences that say what a table of scores shows."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from harope.lab.metrics.intervals import Proportion, Scores

_LISTED = 4
"""Largest number of findings that a sentence names."""


def list_findings(found: Sequence[str]) -> str:
    """Name the first findings, and count the others.

    Args:
        found: Findings, such as `a above b in exact`.

    Returns:
        The end of a sentence, without its full stop.
    """
    more = [f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
    return "; ".join([*found[:_LISTED], *more])


def describe_overlap(columns: Mapping[str, Scores]) -> str:
    """Say which scores of which models differ by more than their intervals.

    Args:
        columns: Scores by name of the model.

    Returns:
        A sentence: the pairs whose Wilson intervals do not overlap, or that all overlap. It is
        empty if there is nothing to compare.
    """
    found, compared = [], 0
    for (first, one), (second, two) in combinations(columns.items(), 2):
        for name in one:
            if name not in two:
                continue
            compared += 1
            if _apart(one[name], two[name]):
                higher, lower = (
                    (first, second) if one[name].rate > two[name].rate else (second, first)
                )
                found.append(f"{higher} above {lower} in {name}")
    if not compared:
        return ""
    if not found:
        return "All 95 % intervals overlap, so no difference between the columns is certain."
    return f"Intervals that do not overlap: {list_findings(found)}."


def _apart(one: Proportion, two: Proportion) -> bool:
    (low, high), (other_low, other_high) = one.interval(), two.interval()
    return high < other_low or other_high < low

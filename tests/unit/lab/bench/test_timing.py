"""Interleaved timings."""

import pytest

from harope.lab.bench.timing import LEAST_ROUNDS, Spread, Timing, time_interleaved


def test_rounds_start_with_another_work_each_and_call_all_equally_often():
    calls = []
    works = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    timings = time_interleaved(works, rounds=4, repeats=2, warmup=1)
    assert "".join(calls) == "abc" + "aabbcc" + "bbccaa" + "ccaabb" + "aabbcc"
    assert {len(timing.seconds) for timing in timings.values()} == {4}


def test_ratios_are_taken_round_by_round():
    slow, fast = Timing((2.0, 20.0, 4.0)), Timing((1.0, 10.0, 1.0))
    assert slow.over(fast) == Spread(2.0, 2.0, 3.0)


def test_a_spread_is_median_and_quartiles():
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_timings_of_different_lengths_do_not_compare():
    with pytest.raises(ValueError, match="longer"):
        Timing((1.0,)).over(Timing((1.0, 2.0)))


def test_no_round_begins_after_the_budget():
    timings = time_interleaved({"a": lambda: None}, rounds=9, budget=0.0)
    assert len(timings["a"].seconds) == LEAST_ROUNDS

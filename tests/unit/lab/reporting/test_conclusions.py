from harope.lab.metrics.intervals import Proportion
from harope.lab.reporting.conclusions import describe_overlap


def test_differences_beyond_the_intervals_are_named():
    columns = {
        "a": {"exact": Proportion(90, 100), "colors": Proportion(50, 100)},
        "b": {"exact": Proportion(10, 100), "colors": Proportion(52, 100)},
    }
    assert describe_overlap(columns) == "Intervals that do not overlap: a above b in exact."


def test_overlapping_intervals_are_no_difference():
    columns = {"a": {"exact": Proportion(9, 10)}, "b": {"exact": Proportion(7, 10)}}
    assert "no difference between the columns is certain" in describe_overlap(columns)


def test_nothing_to_compare_says_nothing():
    assert describe_overlap({"a": {"exact": Proportion(9, 10)}}) == ""
    assert describe_overlap({"a": {"x": Proportion(1, 2)}, "b": {"y": Proportion(1, 2)}}) == ""


def test_many_differences_are_counted():
    one = {str(n): Proportion(100, 100) for n in range(6)}
    two = {str(n): Proportion(0, 100) for n in range(6)}
    assert describe_overlap({"a": one, "b": two}).endswith("a above b in 3; and 2 more.")

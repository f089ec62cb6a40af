import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harope.lab.metrics.intervals import Mean, Proportion


@given(total=st.integers(1, 500), data=st.data())
def test_the_ends_of_wilsons_interval_solve_his_equation(total, data):
    """(p - rate)^2 = z^2 p (1 - p) / n at both ends, unless an end is cut at 0 or 1."""
    successes = data.draw(st.integers(0, total))
    proportion = Proportion(successes, total)
    z = 1.959963984540054
    low, high = proportion.interval()
    assert 0 <= low <= proportion.rate + 1e-12
    assert proportion.rate - 1e-12 <= high <= 1
    for end in (low, high):
        assert math.isclose(
            (end - proportion.rate) ** 2, z * z * end * (1 - end) / total, abs_tol=1e-9
        )


def test_a_published_example():
    """Wilson interval of 81 of 263 (Newcombe 1998, table I): 0.2553 to 0.3662."""
    low, high = Proportion(81, 263).interval()
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize(("successes", "total"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(successes, total):
    with pytest.raises(ValueError, match=rf"successes {successes} .* total {total}"):
        Proportion(successes, total)


def test_students_interval_of_a_few_values():
    """Fisher's example of sleep (Student 1908, table): differences of ten patients."""
    differences = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    mean = Mean.of(differences)
    assert mean.value == pytest.approx(1.58)
    assert (mean.low, mean.high) == pytest.approx((0.7001, 2.4599), abs=1e-4)


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="1 values have no interval: give at least 2"):
        Mean.of([0.5])


def test_the_mean_of_groups_has_welchs_interval():
    # Each mean has the variance 0.5 / 2; Satterthwaite's freedom is 2, t 4.30265.
    mean = Mean.of_groups([[0.0, 1.0], [0.0, 1.0]])
    assert mean.value == 0.5
    assert mean.high - mean.value == pytest.approx(4.30265 * math.sqrt(0.5) / 2, rel=1e-5)


def test_groups_of_one_size_and_spread_weigh_alike():
    assert Mean.of_groups([[1.0, 1.0, 1.0], [0.0, 0.0]]) == Mean(0.5, 0.5, 0.5)


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0], [1.0]]])
def test_groups_without_spread_are_refused(groups):
    with pytest.raises(ValueError, match="at least 2 each"):
        Mean.of_groups(groups)


def test_an_interval_excludes_zero_on_either_side_unless_there_is_no_spread():
    assert Mean(1.0, 0.1, 2.0).excludes_zero
    assert Mean(-1.0, -2.0, -0.1).excludes_zero
    assert not Mean(1.0, -0.1, 2.0).excludes_zero
    assert not Mean(0.0, 0.0, 0.0).excludes_zero
    assert not Mean.of([1 / 60, 1 / 60, 1 / 60]).excludes_zero

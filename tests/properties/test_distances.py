import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harope.lab.metrics.frechet import frechet_distance
from harope.lab.metrics.gaussian import Gaussian, Moments
from harope.lab.metrics.kid import kernel_distance
from harope.lab.metrics.prdc import density_coverage, precision_recall

SEEDS = st.integers(0, 2**32 - 1)
DIMS = st.integers(1, 6)


def features(seed, count, dim):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + rng.normal(size=dim)


def distance(x, y):
    return frechet_distance(Moments.of(x).gaussian(), Moments.of(y).gaussian())


@settings(deadline=None, max_examples=40)
@given(SEEDS, DIMS)
def test_a_set_is_at_no_distance_from_itself_in_any_order(seed, dim):
    x = features(seed, 30, dim)
    shuffled = np.random.default_rng(seed).permutation(x)
    scale = np.trace(np.cov(x, rowvar=False).reshape(dim, dim))
    assert distance(x, shuffled) == pytest.approx(0, abs=1e-9 * scale)


@settings(deadline=None, max_examples=40)
@given(SEEDS, DIMS)
def test_the_frechet_distance_is_symmetric_and_moves_with_the_mean(seed, dim):
    x, y = features(seed, 30, dim), features(seed + 1, 25, dim)
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-8, abs=1e-9)
    shift = np.arange(1.0, dim + 1)
    expected = shift @ shift
    assert distance(x, x + shift) == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(SEEDS, DIMS)
def test_a_rotation_of_both_sides_changes_no_distance(seed, dim):
    x, y = features(seed, 30, dim), features(seed + 1, 25, dim)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))
    assert distance(x @ turn, y @ turn) == pytest.approx(distance(x, y), rel=1e-7, abs=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 4), st.floats(0, 4))
def test_in_one_dimension_the_distance_is_its_closed_form(mean_a, mean_b, std_a, std_b):
    a = Gaussian(np.array([mean_a]), np.array([[std_a**2]]))
    b = Gaussian(np.array([mean_b]), np.array([[std_b**2]]))
    expected = (mean_a - mean_b) ** 2 + (std_a - std_b) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.lists(st.integers(0, 12), min_size=1, max_size=6), DIMS)
def test_merging_parts_is_one_pass(seed, sizes, dim):
    x = features(seed, sum(sizes) + 2, dim)
    total = Moments(dim)
    for part in np.split(x, np.cumsum(sizes)):
        total.merge(Moments.of(part))
    found, expected = total.gaussian(), Moments.of(x).gaussian()
    assert found.count == expected.count
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-9, atol=1e-11)


@settings(deadline=None, max_examples=25)
@given(SEEDS, DIMS)
def test_order_changes_nothing(seed, dim):
    x, y = features(seed, 20, dim), features(seed + 1, 20, dim)
    order = np.random.default_rng(seed).permutation(20)
    for measure in (precision_recall, density_coverage):
        assert measure(x[order], y) == pytest.approx(measure(x, y))
    whole = kernel_distance(x, y, subsets=1, subset_size=20)
    again = kernel_distance(x[order], y, subsets=1, subset_size=20)
    assert again.mean == pytest.approx(whole.mean, rel=1e-7, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(2, 6))
def test_recall_is_precision_with_the_sides_exchanged(seed, dim):
    x, y = features(seed, 25, dim), features(seed + 1, 20, dim)
    there, back = precision_recall(x, y), precision_recall(y, x)
    assert (there.precision, there.recall) == (back.recall, back.precision)

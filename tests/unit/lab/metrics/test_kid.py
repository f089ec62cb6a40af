import math

import numpy as np
import pytest

from harope.lab.metrics.kid import SubsetStatistics, kernel_distance


def features(count=12, dim=3, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def test_one_subset_of_everything_is_the_unbiased_estimate_term_by_term():
    x, y = features(), features(seed=1)

    def k(a, b):
        return (sum(float(i) * float(j) for i, j in zip(a, b, strict=True)) / 3 + 1) ** 3

    m = len(x)
    pairs = [(i, j) for i in range(m) for j in range(m)]
    within = sum(k(s[i], s[j]) for s in (x, y) for i, j in pairs if i != j) / (m * (m - 1))
    between = sum(k(x[i], y[j]) for i, j in pairs) / m**2
    found = kernel_distance(x, y, subsets=2, subset_size=m)
    assert found.mean == pytest.approx(within - 2 * between, rel=1e-10)
    assert found.std == pytest.approx(0, abs=1e-10)


def test_the_seed_decides():
    x, y = features(40), features(40, seed=1)
    first = kernel_distance(x, y, subsets=3, subset_size=10, seed=5)
    assert kernel_distance(x, y, subsets=3, subset_size=10, seed=5) == first
    assert kernel_distance(x, y, subsets=3, subset_size=10, seed=6) != first


def test_the_standard_error_is_that_of_a_mean():
    scores = [1.0, 2.0, 4.0]
    found = SubsetStatistics.of(scores)
    assert found.standard_error == pytest.approx(np.std(scores, ddof=1) / math.sqrt(3))
    assert math.isnan(SubsetStatistics.of([1.0]).standard_error)


@pytest.mark.parametrize("size", [1, 13])
def test_a_subset_size_that_cannot_be_drawn_is_refused(size):
    with pytest.raises(ValueError, match=rf"subset_size {size} must lie in 2 \.\. 12"):
        kernel_distance(features(), features(), subset_size=size)


def test_no_subsets_are_refused():
    with pytest.raises(ValueError, match="subsets 0"):
        kernel_distance(features(), features(), subsets=0, subset_size=2)


def test_other_numbers_of_features_are_refused(annotations_unchecked):
    with pytest.raises(ValueError, match="3 features against 4"):
        kernel_distance(features(), features(dim=4), subset_size=2)

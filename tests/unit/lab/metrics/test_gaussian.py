import numpy as np
import pytest

from harope.lab.metrics.gaussian import Gaussian, Moments


def features(count=50, dim=4, offset=0.0, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)) + offset


def test_the_moments_are_numpys():
    x = features()
    found = Moments.of(x, block=7).gaussian()
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(x, rowvar=False), rtol=1e-12)
    assert found.count == 50


def test_features_far_from_the_origin_keep_their_covariance():
    """Where Σ x² - n mean² would leave nothing: squares are 1e16 times the spread."""
    x = features(200, 3, offset=1e8)
    moments = Moments(3)
    for row in x:
        moments.update(row[None])
    np.testing.assert_allclose(moments.gaussian().covariance, np.cov(x.T), rtol=1e-6)


def test_float32_features_are_summed_in_float64():
    x = (features(1000, 2) + 1000).astype(np.float32)
    expected = np.cov(x.astype(np.float64).T)
    np.testing.assert_allclose(Moments.of(x).gaussian().covariance, expected, rtol=1e-12)


def test_merging_an_empty_part_changes_nothing():
    moments = Moments.of(features())
    before = moments.gaussian()
    moments.merge(Moments(4))
    np.testing.assert_array_equal(moments.gaussian().covariance, before.covariance)


def test_updating_leaves_the_features_as_they_were():
    x = features()
    before = x.copy()
    Moments(4).update(x)
    np.testing.assert_array_equal(x, before)


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="number of images is 1"):
        Moments.of(features(1)).gaussian()


def test_moments_of_other_features_do_not_join():
    with pytest.raises(ValueError, match="moments of 3 features cannot be merged with those of 4"):
        Moments(4).merge(Moments(3))


def test_a_gaussian_of_broken_features_is_refused():
    with pytest.raises(ValueError, match="NaN or infinity"):
        Gaussian(np.array([np.nan, 0.0]), np.eye(2))


def test_a_gaussian_whose_shapes_do_not_fit_is_refused(annotations_unchecked):
    with pytest.raises(ValueError, match=r"mean has shape \(2,\) and covariance \(3, 3\)"):
        Gaussian(np.zeros(2), np.eye(3))

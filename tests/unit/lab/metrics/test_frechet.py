import warnings

import numpy as np
import pytest

from harope.lab.metrics.frechet import SingularCovarianceWarning, frechet_distance
from harope.lab.metrics.gaussian import Gaussian, Moments


def test_the_distance_of_normals_with_one_basis_is_its_closed_form():
    """With Σ = Q diag(s²) Q^T on both sides, d² = |Δμ|² + Σ (s_a - s_b)²."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    s_a, s_b, mean = rng.uniform(0.1, 2, 6), rng.uniform(0.1, 2, 6), rng.normal(size=6)
    a = Gaussian(np.zeros(6), (basis * s_a**2) @ basis.T)
    b = Gaussian(mean, (basis * s_b**2) @ basis.T)
    expected = mean @ mean + ((s_a - s_b) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_the_distance_is_that_by_the_square_root_of_the_product():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    a, b = (Moments.of(rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5))).gaussian() for _ in "ab")
    root = np.trace(sqrtm(a.covariance @ b.covariance)).real
    shift = a.mean - b.mean
    expected = shift @ shift + np.trace(a.covariance + b.covariance) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_singular_covariances_have_an_exact_distance():
    a = Gaussian(np.zeros(3), np.diag([1.0, 0.0, 0.0]))
    b = Gaussian(np.zeros(3), np.diag([4.0, 1.0, 0.0]))
    assert frechet_distance(a, b) == pytest.approx(2.0, rel=1e-12)


def test_as_few_samples_as_features_give_a_warning():
    x = np.random.default_rng(0).normal(size=(5, 5))
    enough = Gaussian(np.zeros(5), np.eye(5), 6)
    with pytest.warns(SingularCovarianceWarning, match="5 samples are no more than the 5 features"):
        frechet_distance(Moments.of(x).gaussian(), enough)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(enough, Gaussian(np.zeros(5), np.eye(5)))


def test_other_numbers_of_features_are_refused():
    with pytest.raises(ValueError, match="2 features against 3"):
        frechet_distance(Gaussian(np.zeros(2), np.eye(2)), Gaussian(np.zeros(3), np.eye(3)))

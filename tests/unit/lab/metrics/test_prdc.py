import tracemalloc

import numpy as np
import pytest

from harope.lab.metrics import prdc as manifold
from harope.lab.metrics.prdc import density_coverage, precision_recall, radii


def features(count, dim=2, seed=0, scale=1.0):
    return (np.random.default_rng(seed).normal(size=(count, dim)) * scale).astype(np.float32)


def distances(a, b):
    return np.linalg.norm(a[:, None].astype(float) - b[None].astype(float), axis=-1)


def brute_radii(x, k):
    return np.sort(distances(x, x), axis=1)[:, k]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks in either direction, the last ones not full."""
    monkeypatch.setattr(manifold, "ROWS", 7)
    monkeypatch.setattr(manifold, "COLUMNS", 5)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_radii_are_those_by_brute_force(k):
    x = features(33)
    np.testing.assert_allclose(np.sqrt(radii(x, k)), brute_radii(x, k), rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_those_by_brute_force(k):
    samples, reference = features(31, scale=1.4), features(26, seed=1)
    between = distances(samples, reference)
    precision = (between <= brute_radii(reference, k)).any(axis=1).mean()
    recall = (between <= brute_radii(samples, k)[:, None]).any(axis=0).mean()
    assert 0 < precision < 1
    assert precision_recall(samples, reference, k=k) == pytest.approx((precision, recall))


@pytest.mark.parametrize("k", [2, 5])
def test_density_and_coverage_are_those_by_brute_force(k):
    samples, reference = features(31, scale=1.4), features(26, seed=1)
    within = distances(samples, reference) < brute_radii(reference, k)
    density, coverage = within.sum() / (k * len(samples)), within.any(axis=0).mean()
    assert density_coverage(samples, reference, k=k) == pytest.approx((density, coverage))


def test_a_set_against_itself_has_all_four_at_one():
    x = features(40, dim=8)
    assert precision_recall(x, x) == (1, 1)
    assert density_coverage(x, x) == (1, 1)


def test_sets_far_apart_have_none():
    x, y = features(20), features(20) + 100
    assert precision_recall(x, y) == (0, 0)
    assert density_coverage(x, y) == (0, 0)


def test_samples_of_one_mode_are_precise_and_recall_little():
    reference = np.concatenate([features(30), features(30, seed=1) + 100])
    found = precision_recall(features(30, seed=2, scale=0.5), reference)
    assert found.precision > 0.9
    assert found.recall < 0.6


def test_copies_of_one_feature_are_at_distance_zero():
    """Rounding of |a|² + |b|² - 2 a·b alone would set them apart."""
    copies = np.tile(features(1, dim=64) + 30, (20, 1))
    assert (radii(copies, 3) == 0).all()
    assert precision_recall(copies, copies) == (1, 1)


def test_only_blocks_of_distances_are_held(monkeypatch):
    monkeypatch.setattr(manifold, "ROWS", 100)
    monkeypatch.setattr(manifold, "COLUMNS", 200)
    x, y = features(1000, 4), features(1000, 4, seed=1)
    tracemalloc.start()
    precision_recall(x, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(x) * len(y) * 8 / 4


def test_as_few_images_as_neighbours_are_refused():
    with pytest.raises(ValueError, match="3 images have no neighbour 3: give at least 4"):
        precision_recall(features(3), features(9))
    with pytest.raises(ValueError, match="5 images have no neighbour 5"):
        density_coverage(features(9), features(5))


def test_no_neighbours_are_refused():
    with pytest.raises(ValueError, match="k 0 must be at least 1"):
        precision_recall(features(3), features(9), k=0)


def test_other_numbers_of_features_are_refused(annotations_unchecked):
    with pytest.raises(ValueError, match="2 features against 3"):
        density_coverage(features(9), features(9, dim=3))

"""Distances from features, ours against torch-fidelity's."""

import numpy as np
import pytest
import torch
from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

from harope.lab.metrics.frechet import frechet_distance
from harope.lab.metrics.gaussian import Moments
from harope.lab.metrics.inception_score import inception_score
from harope.lab.metrics.kid import kernel_distance
from harope.lab.metrics.prdc import precision_recall


def features(count, dim=24, seed=0, scale=1.0):
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=draws)
    return torch.randn(count, dim, generator=draws) @ mixing * scale


@pytest.mark.parametrize("count", [200, 20])
@pytest.mark.filterwarnings("ignore::harope.lab.metrics.frechet.SingularCovarianceWarning")
def test_the_frechet_distance(count):
    x, y = features(count), features(150, seed=1)
    stats = [metric_fid.fid_features_to_statistics(part.double()) for part in (x, y)]
    theirs = metric_fid.fid_statistics_to_metric(*stats, verbose=False)
    ours = frechet_distance(*(Moments.of(part.numpy()).gaussian() for part in (x, y)))
    # Of a singular product their square roots of eigenvalues keep half the digits.
    tolerance = 1e-9 if count > 24 else 1e-6
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=tolerance)


def test_the_kernel_distance_draws_the_same_subsets():
    x, y = features(80), features(60, seed=1)
    options = {"kid_subsets": 7, "kid_subset_size": 30, "rng_seed": 11, "verbose": False}
    theirs = metric_kid.kid_features_to_metric(x.double(), y.double(), **options)
    ours = kernel_distance(x.numpy(), y.numpy(), subsets=7, subset_size=30, seed=11)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)
    assert ours.std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-10)


@pytest.mark.parametrize("count", [1000, 37])
def test_the_inception_score_of_shuffled_splits(count):
    logits = features(count, 12)
    theirs = metric_isc.isc_features_to_metric(logits)
    ours = inception_score(logits.numpy(), "torch-fidelity")
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-10)


def test_the_inception_score_of_consecutive_splits():
    """As torch-fidelity's without shuffling, where its splits come to 5,000."""
    logits = features(10_000, 6)
    theirs = metric_isc.isc_features_to_metric(logits, splits=2, shuffle=False)
    ours = inception_score(logits.numpy(), "adm")
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)


def test_precision_and_recall():
    x, y = features(90, 4, scale=1.5), features(70, 4, seed=0)
    theirs = metric_prc.prc_features_to_metric(x.double(), y.double(), verbose=False)
    ours = precision_recall(x.numpy(), y.numpy())
    assert 0 < ours.precision < 1
    np.testing.assert_allclose(ours, [theirs["precision"], theirs["recall"]], rtol=1e-6)

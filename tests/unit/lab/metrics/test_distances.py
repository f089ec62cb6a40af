import numpy as np
import pytest

from harope.lab.metrics.compute import compute_features
from harope.lab.metrics.distances import DistanceConfig, check_request, compute_metrics
from harope.lab.metrics.image_sets import open_images
from harope.lab.metrics.reference import open_reference
from support.distance import Rich, mean_colour, noise, write_folder

ALL = DistanceConfig(metrics=("fid", "sfid", "kid", "is", "pr", "dc"), subset_size=8, subsets=5)


@pytest.fixture
def samples(tmp_path):
    return open_images(write_folder(tmp_path / "samples", noise(30)))


@pytest.fixture
def reference(tmp_path):
    return open_reference(write_folder(tmp_path / "reference", noise(20, seed=1)))


def names(config, samples, reference, extractor):
    check_request(config, samples, reference, extractor)
    reference.feature_set = compute_features(reference.images, extractor)
    found = compute_metrics(config, compute_features(samples, extractor), reference, extractor)
    assert all(np.isfinite(one.value) for one in found)
    return [one.name for one in found]


def test_inceptions_numbers_have_the_names_of_the_field(samples, reference):
    expected = ["FID", "sFID", "KID", "IS", "precision", "recall", "density", "coverage"]
    assert names(ALL, samples, reference, Rich()) == expected


def test_numbers_of_others_carry_the_extractors_name(samples, reference):
    config = DistanceConfig(metrics=("kid", "fid"), subset_size=8, subsets=5)
    assert names(config, samples, reference, mean_colour()) == ["KD-colour", "FD-colour"]


def test_samples_against_themselves_are_at_no_distance(tmp_path, samples):
    reference = open_reference(tmp_path / "samples")
    reference.feature_set = measured = compute_features(samples, Rich())
    found = {one.name: one.value for one in compute_metrics(ALL, measured, reference, Rich())}
    assert found["FID"] == pytest.approx(0, abs=1e-9)
    assert found["sFID"] == pytest.approx(0, abs=1e-6)
    assert found["precision"] == found["recall"] == found["density"] == found["coverage"] == 1


def test_scores_say_how_they_were_made(samples, reference):
    reference.feature_set = compute_features(reference.images, Rich())
    found = {
        one.name: one
        for one in compute_metrics(ALL, compute_features(samples, Rich()), reference, Rich())
    }
    assert found["KID"].how == "5 subsets of 8, standard error"
    assert "unshuffled" in found["IS"].how
    assert found["IS"].uncertainty is None
    assert found["precision"].how == "k = 3"
    assert found["density"].how == "k = 5"


@pytest.mark.parametrize(
    ("metric", "what"), [("is", "is needs logits"), ("sfid", "sfid needs spatial features")]
)
def test_what_the_extractor_lacks_fails_before_any_work(samples, reference, metric, what):
    with pytest.raises(ValueError, match=what):
        check_request(DistanceConfig(metrics=(metric,)), samples, reference, mean_colour())


@pytest.mark.parametrize(
    ("metric", "count", "what"),
    [
        ("fid", 1, "holds 1 image: give at least 2"),
        ("kid", 30, "subset_size 1000 must lie in 2"),
        ("pr", 3, "3 images have no neighbour 3"),
        ("dc", 5, "5 images have no neighbour 5"),
    ],
)
def test_too_few_images_fail_before_any_work(tmp_path, reference, metric, count, what):
    few = open_images(write_folder(tmp_path / "few", noise(count)))
    with pytest.raises(ValueError, match=what):
        check_request(DistanceConfig(metrics=(metric,)), few, reference, mean_colour())


def test_features_that_were_not_kept_are_missed(samples, reference):
    reference.feature_set = compute_features(reference.images, Rich())
    thin = compute_features(samples, Rich(), keep_features=False)
    with pytest.raises(ValueError, match="has no features of single images"):
        compute_metrics(DistanceConfig(metrics=("pr",)), thin, reference, Rich())
    with pytest.raises(ValueError, match="has no logits"):
        compute_metrics(DistanceConfig(metrics=("is",)), thin, reference, Rich())


@pytest.mark.parametrize("metrics", [(), ("fid", "nope")])
def test_unknown_metrics_are_refused(annotations_unchecked, metrics):
    with pytest.raises(ValueError, match="choose from fid, sfid, kid, is, pr, dc"):
        DistanceConfig(metrics=metrics)

import numpy as np
import pytest

from harope.lab.metrics.compute import compute_features
from harope.lab.metrics.feature_set import save_feature_set, save_statistics
from harope.lab.metrics.image_sets import open_images
from harope.lab.metrics.reference import open_reference
from support.distance import Rich, mean_colour, noise, write_folder


@pytest.fixture
def samples(tmp_path):
    return open_images(write_folder(tmp_path / "samples", noise(9)))


def adm(path, **more):
    np.savez(path, mu=np.zeros(3), sigma=np.eye(3), **more)
    return path


def test_a_folder_is_to_be_measured(tmp_path, samples):
    reference = open_reference(tmp_path / "samples")
    assert reference.needs_features(["fid"])
    assert reference.count == 9
    with pytest.raises(ValueError, match="has no features yet"):
        _ = reference.gaussian
    assert not reference.needs_features(["is"])


def test_adms_reference_gives_statistics_and_images(tmp_path, samples):
    reference = open_reference(
        adm(tmp_path / "r.npz", mu_s=np.zeros(2), sigma_s=np.eye(2), arr_0=noise(5))
    )
    reference.check(samples, Rich())
    assert not reference.needs_features(["fid", "sfid"])
    assert reference.needs_features(["fid", "pr"])
    assert reference.count == 5
    assert reference.spatial.mean.shape == (2,)


def test_statistics_alone_have_no_features(tmp_path):
    reference = open_reference(adm(tmp_path / "r.npz"))
    with pytest.raises(ValueError, match="holds statistics only, but kid, pr compare features"):
        reference.needs_features(["fid", "kid", "pr"])
    with pytest.raises(ValueError, match="has no spatial features"):
        _ = reference.spatial


def test_features_in_a_file_are_a_reference(tmp_path, samples):
    measured = compute_features(samples, mean_colour())
    save_feature_set(measured, tmp_path / "r.safetensors")
    reference = open_reference(tmp_path / "r.safetensors")
    reference.check(samples, mean_colour())
    assert not reference.needs_features(["fid", "kid"])
    np.testing.assert_array_equal(reference.features, measured.features)
    np.testing.assert_array_equal(reference.gaussian.mean, measured.moments.mean)


def test_features_that_were_not_kept_are_missed(tmp_path, samples):
    save_feature_set(
        compute_features(samples, mean_colour(), keep_features=False), tmp_path / "r.safetensors"
    )
    with pytest.raises(ValueError, match="has no features of single images"):
        _ = open_reference(tmp_path / "r.safetensors").features


@pytest.mark.parametrize("kind", ["images", "arr_0", "statistics"])
def test_a_reference_of_another_resolution_is_refused(tmp_path, samples, kind):
    large = open_images(write_folder(tmp_path / "large", noise(9, 12, 12)))
    path = tmp_path / "large"
    if kind == "arr_0":
        path = adm(tmp_path / "r.npz", arr_0=noise(5, 12, 12))
    elif kind == "statistics":
        path = tmp_path / "s.npz"
        save_statistics(compute_features(large, Rich()), path)
    with pytest.raises(ValueError, match=r"has images of 12 x 12 pixels but .* of 6 x 5"):
        open_reference(path).check(samples, Rich())


@pytest.mark.parametrize(
    ("extractor", "what"),
    [(mean_colour("other"), "extractor 'colour'"), (mean_colour(weights="new"), "weights ''")],
)
def test_a_reference_of_another_extractor_is_refused(tmp_path, samples, extractor, what):
    save_statistics(compute_features(samples, mean_colour()), tmp_path / "s.npz")
    with pytest.raises(ValueError, match=rf"was computed with {what} but the samples with"):
        open_reference(tmp_path / "s.npz").check(samples, extractor)


def test_statistics_that_do_not_say_are_taken_for_inceptions(tmp_path, samples):
    reference = open_reference(adm(tmp_path / "r.npz"))
    reference.check(samples, Rich())
    with pytest.raises(ValueError, match="does not name its extractor"):
        reference.check(samples, mean_colour())


def test_another_number_of_features_is_refused(tmp_path, samples):
    np.savez(tmp_path / "r.npz", mu=np.zeros(4), sigma=np.eye(4))
    with pytest.raises(ValueError, match="has 4 features but Inception 3"):
        open_reference(tmp_path / "r.npz").check(samples, Rich())


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "r.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"r\.npz is not an \.npz file"):
        open_reference(tmp_path / "r.npz")

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from harope.lab.metrics.compute import compute_features
from harope.lab.metrics.feature_set import (
    load_feature_set,
    load_statistics,
    merge,
    save_feature_set,
    save_statistics,
)
from harope.lab.metrics.image_sets import open_images
from support.distance import Rich, noise, write_folder


@pytest.fixture
def images(tmp_path):
    return open_images(write_folder(tmp_path / "images", noise(11)))


def assert_same(found, expected):
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.logits, expected.logits)
    for one, other in ((found.moments, expected.moments), (found.spatial, expected.spatial)):
        assert one.count == other.count
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12)
        np.testing.assert_allclose(one.scatter, other.scatter, rtol=1e-9, atol=1e-9)
    assert found.provenance == expected.provenance


def test_everything_comes_back_from_its_file(tmp_path, images):
    measured = compute_features(images, Rich())
    save_feature_set(measured, tmp_path / "deep" / "one.safetensors")
    assert_same(load_feature_set(tmp_path / "deep" / "one.safetensors"), measured)


def test_shares_from_files_are_the_whole(tmp_path, images):
    for rank in range(3):
        part = compute_features(images, Rich(), rank=rank, world_size=3)
        save_feature_set(part, tmp_path / f"{rank}.safetensors")
    merged = merge([load_feature_set(tmp_path / f"{rank}.safetensors") for rank in range(3)])
    assert_same(merged, compute_features(images, Rich()))


def test_shares_of_other_measurements_do_not_merge(images):
    one = compute_features(images, Rich())
    other = replace(one, provenance=replace(one.provenance, image_size=(8, 8)))
    with pytest.raises(ValueError, match="image size 6 x 5 against 8 x 8"):
        merge([one, other])


def test_a_damaged_file_of_features_is_named(tmp_path):
    (tmp_path / "f.safetensors").write_text("hello")
    with pytest.raises(ValueError, match=r"f\.safetensors holds no features"):
        load_feature_set(tmp_path / "f.safetensors")


def test_a_foreign_safetensors_file_is_named(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "f.safetensors")
    with pytest.raises(ValueError, match=r"f\.safetensors holds no features"):
        load_feature_set(tmp_path / "f.safetensors")


def test_statistics_have_adms_keys_and_say_what_made_them(tmp_path, images):
    measured = compute_features(images, Rich())
    save_statistics(measured, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as arrays:
        np.testing.assert_allclose(arrays["mu"], measured.features.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(arrays["sigma"], np.cov(measured.features.T), rtol=1e-5)
        assert arrays["sigma_s"].shape == (12, 12)
        assert json.loads(str(arrays["manifest"]))["image_size"] == [6, 5]
    found = load_statistics(tmp_path / "s.npz")
    assert found.provenance == measured.provenance
    assert found.gaussian.count == found.spatial.count == 11


def test_adms_statistics_are_read(tmp_path):
    mu, sigma = np.arange(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    np.savez(tmp_path / "s.npz", mu=mu, sigma=sigma, mu_s=mu[:2], sigma_s=sigma[:2, :2])
    found = load_statistics(tmp_path / "s.npz")
    assert found.provenance is None
    assert found.gaussian.count is None
    assert found.gaussian.mean.dtype == np.float64
    assert found.spatial.mean.tolist() == [0, 1]


def test_broken_statistics_are_named(tmp_path):
    np.savez(tmp_path / "s.npz", mu=np.full(3, np.nan), sigma=np.eye(3))
    with pytest.raises(ValueError, match=r"s\.npz holds no statistics .*NaN"):
        load_statistics(tmp_path / "s.npz")


@pytest.mark.usefixtures("annotations_unchecked")
@pytest.mark.parametrize(
    "change",
    [
        {"moments.count": np.array([0])},
        {"moments.mean": np.zeros((3, 1))},
        {"moments.mean": np.full(3, np.nan)},
        {"moments.scatter": np.zeros((3, 2))},
        {"moments.count": np.zeros(2)},
        {"features": np.zeros((11, 4), np.float32)},
        {"features": np.zeros((10, 3), np.float32)},
        {"features": np.full((11, 3), np.inf, np.float32)},
        {"logits": np.zeros((11, 3), np.int8)},
        {"spatial.scatter": np.zeros(3)},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path, images, change):
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "f.safetensors"
    measured = compute_features(images, Rich())
    save_feature_set(measured, path)
    manifest = json.dumps(asdict(measured.provenance))
    save_file(load_file(path) | change, path, metadata={"manifest": manifest})
    with pytest.raises(ValueError, match=r"f\.safetensors holds no features .*: delete it"):
        load_feature_set(path)


@pytest.mark.parametrize(
    "manifest", ["[]", "null", "{", '{"extractor": 3}', "[" * 100_000, '{"image_size": "6"}']
)
def test_descriptions_of_another_shape_are_refused(tmp_path, images, manifest):
    from safetensors.numpy import load_file, save_file

    save_feature_set(compute_features(images, Rich()), tmp_path / "f.safetensors")
    arrays = load_file(tmp_path / "f.safetensors")
    save_file(arrays, tmp_path / "f.safetensors", metadata={"manifest": manifest})
    with pytest.raises(ValueError, match=r"f\.safetensors"):
        load_feature_set(tmp_path / "f.safetensors")
    np.savez(tmp_path / "s.npz", mu=np.zeros(3), sigma=np.eye(3), manifest=np.array(manifest))
    with pytest.raises(ValueError, match=r"s\.npz"):
        load_statistics(tmp_path / "s.npz")


@pytest.mark.usefixtures("annotations_unchecked")
@pytest.mark.parametrize(
    "arrays",
    [
        {"mu": np.zeros(3)},
        {"mu": np.zeros((3, 1)), "sigma": np.eye(3)},
        {"mu": np.zeros(3), "sigma": np.eye(4)},
        {"mu": np.array("three"), "sigma": np.eye(3)},
        {"mu": np.zeros(3), "sigma": np.eye(3), "count": np.zeros(2)},
    ],
)
def test_arrays_that_are_no_statistics_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(ValueError, match=r"s\.npz holds no statistics .*: pass an \.npz"):
        load_statistics(tmp_path / "s.npz")

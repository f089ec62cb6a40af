import tracemalloc

import numpy as np
import pytest
import torch

from harope.lab.metrics.compute import compute_features, compute_features_in_folder, merge_shards
from harope.lab.metrics.features import FunctionExtractor
from harope.lab.metrics.image_sets import open_images
from harope.lab.metrics.npz import write_npz
from support.distance import Rich, mean_colour, noise, write_folder


@pytest.fixture
def images(tmp_path):
    return open_images(write_folder(tmp_path / "images", noise(11)))


def refuse(_):
    raise AssertionError("an image was measured again")


def test_features_come_in_the_images_order_whatever_the_batch(images):
    expected = noise(11).mean(axis=(1, 2)) / 255
    for batch_size in (1, 4, 64):
        found = compute_features(images, mean_colour(), batch_size=batch_size)
        np.testing.assert_allclose(found.features, expected, rtol=1e-5)
        np.testing.assert_allclose(found.moments.mean, expected.mean(axis=0), rtol=1e-5)


def test_without_keeping_there_are_moments_alone(images):
    found = compute_features(images, Rich(), keep_features=False)
    assert found.features is None
    assert found.logits is None
    assert found.spatial.count == found.count == 11


def test_damaged_files_shorten_what_is_kept(tmp_path):
    folder = write_folder(tmp_path, noise(8))
    path = folder / "000003.png"
    path.write_bytes(path.read_bytes()[:-40])
    found = compute_features(open_images(folder, max_unreadable=0.2), mean_colour(), batch_size=4)
    assert found.count == len(found.features) == 7


def test_memory_does_not_grow_with_the_images(tmp_path):
    """At 50,000 images of 256 pixels, a batch of 64 is 13 MB and Inception's features 410 MB."""
    size, batch_size, peaks = 48, 8, []
    for count in (80, 800):
        parts = (noise(batch_size, size, size) for _ in range(count // batch_size))
        images = open_images(write_npz(tmp_path / f"{count}.npz", parts, count))
        tracemalloc.start()
        compute_features(images, mean_colour(), batch_size=batch_size, keep_features=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    kept = 800 * 3 * 4
    assert peaks[1] < peaks[0] + kept + 200_000
    assert peaks[1] < 800 * size * size * 3 / 4


def test_the_first_image_with_nan_features_is_named(images):
    def broken(batch):
        return torch.where(batch[:, :1, 0] == noise(11)[7, 0, 0, 0], torch.nan, 1.0)

    extractor = FunctionExtractor(
        lambda batch: broken(batch)[:, 0, :1], name="broken", features_dim=1
    )
    with pytest.raises(ValueError, match=r"broken gave NaN or infinite features for image 7 of"):
        compute_features(images, extractor, batch_size=3)


def test_several_processes_give_what_one_gives(tmp_path, images):
    for rank in range(3):
        compute_features_in_folder(images, Rich(), tmp_path / "f", rank=rank, world_size=3)
    merged, whole = merge_shards(tmp_path / "f", 3), compute_features(images, Rich())
    np.testing.assert_array_equal(merged.features, whole.features)
    np.testing.assert_array_equal(merged.logits, whole.logits)
    np.testing.assert_allclose(merged.moments.scatter, whole.moments.scatter, rtol=1e-9)


def test_a_missing_share_is_named(tmp_path, images):
    compute_features_in_folder(images, mean_colour(), tmp_path / "f", rank=0, world_size=2)
    with pytest.raises(ValueError, match=r"share-00001-of-00002\.safetensors is missing"):
        merge_shards(tmp_path / "f", 2)


def test_a_second_run_measures_nothing(tmp_path, images):
    path = compute_features_in_folder(images, mean_colour(), tmp_path / "f")
    idle = FunctionExtractor(refuse, name="colour", features_dim=3)
    assert compute_features_in_folder(images, idle, tmp_path / "f") == path


@pytest.mark.parametrize(
    ("extractor", "what"),
    [
        (mean_colour("other"), "extractor 'colour' against 'other'"),
        (mean_colour(weights="new"), "weights '' against 'new'"),
    ],
)
def test_a_folder_of_another_extractor_is_refused(tmp_path, images, extractor, what):
    compute_features_in_folder(images, mean_colour(), tmp_path / "f")
    with pytest.raises(ValueError, match=what):
        compute_features_in_folder(images, extractor, tmp_path / "f")


def test_a_folder_of_other_images_is_refused(tmp_path, images):
    compute_features_in_folder(images, mean_colour(), tmp_path / "f")
    others = open_images(write_folder(tmp_path / "others", noise(12)))
    with pytest.raises(ValueError, match="digest"):
        compute_features_in_folder(others, mean_colour(), tmp_path / "f")


def test_a_process_without_images_is_told(images):
    with pytest.raises(ValueError, match="no readable image for this process"):
        compute_features(images, mean_colour(), rank=0, world_size=12)


def test_a_batch_size_of_nothing_is_refused(images):
    with pytest.raises(ValueError, match="batch_size 0"):
        compute_features(images, mean_colour(), batch_size=0)

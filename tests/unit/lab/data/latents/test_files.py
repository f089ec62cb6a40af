import pickle

import numpy as np
import pytest
import torch

from harope.lab.data.dataset import loader
from harope.lab.data.latents.files import LatentFilesDataset, LatentPairDataset, LatentsDataConfig


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("leading", [(), (1,)])
def test_pairs_of_all_layouts_are_read_as_float32(write_pair, latents, dtype, leading):
    features, labels = latents
    stored = features.numpy().astype(dtype)
    paths = write_pair(stored.reshape(7, *leading, 4, 2, 3), labels.numpy().reshape(7, *leading))
    dataset = LatentPairDataset(*paths)
    read, read_labels = dataset.items([6, 0, 3])
    np.testing.assert_array_equal(read, stored[[6, 0, 3]].astype(np.float32))
    assert read_labels.tolist() == [2, 0, 1]
    assert (len(dataset), dataset.shape, dataset.num_classes) == (7, (4, 2, 3), 3)


def test_only_the_path_of_the_features_is_pickled(write_pair):
    paths = write_pair(np.zeros((100, 4, 8, 8), np.float32), np.zeros(100, np.int64))
    dataset = LatentPairDataset(*paths)
    dataset.items([0])
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 10_000 < paths[0].stat().st_size
    assert torch.equal(pickle.loads(pickled).items([5])[0], torch.zeros(1, 4, 8, 8))


def test_workers_map_the_file_themselves(write_pair, latents):
    features, labels = latents
    dataset = LatentPairDataset(*write_pair(features.numpy(), labels.numpy()))
    batches = loader(dataset, batch_size=7, num_workers=2)
    for read, read_labels in (next(batches), next(batches)):
        assert sorted(read.sum(dim=(1, 2, 3)).tolist()) == sorted(
            features.sum(dim=(1, 2, 3)).tolist()
        )
        assert sorted(read_labels.tolist()) == sorted(labels.tolist())


def test_classes_may_be_more_than_the_labels_show(write_pair, latents):
    paths = write_pair(latents[0].numpy(), latents[1].numpy())
    assert LatentPairDataset(*paths, num_classes=1000).num_classes == 1000
    with pytest.raises(ValueError, match=r"contains label 2, .* not in \[0, num_classes 2\)"):
        LatentPairDataset(*paths, num_classes=2)


def test_different_lengths_are_refused_by_both_names(write_pair):
    paths = write_pair(np.zeros((3, 4, 2, 2), np.float32), np.zeros(4, np.int64))
    with pytest.raises(ValueError, match=r"features\.npy contains 3 latents but .*labels\.npy 4"):
        LatentPairDataset(*paths)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((2, 4, 2)), np.zeros(2, int), r"features\.npy contains float64 .* \(4, 2\)"),
        (np.zeros((2, 3, 4, 2, 2)), np.zeros(2, int), r"of shape \(3, 4, 2, 2\)"),
        (np.zeros((2, 4, 2, 2), np.uint8), np.zeros(2, int), "contains uint8 latents"),
        (np.zeros((2, 4, 2, 2)), np.zeros(2), r"labels\.npy contains float64"),
        (
            np.zeros((2, 4, 2, 2)),
            np.zeros((2, 2), int),
            r"labels\.npy contains int64 of shape \(2, 2",
        ),
        (np.zeros((2, 4, 2, 2)), np.array([0, -1]), r"labels\.npy contains label -1"),
        (np.zeros((0, 4, 2, 2)), np.zeros(0, int), "length must be at least 1, got 0"),
    ],
)
def test_invalid_latents_or_labels_are_refused(write_pair, features, labels, message):
    with pytest.raises(ValueError, match=message):
        LatentPairDataset(*write_pair(features, labels))


def test_a_truncated_file_is_named(write_pair):
    paths = write_pair(np.zeros((2, 4, 2, 2), np.float32), np.zeros(2, np.int64))
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"features\.npy cannot be read as a \.npy"):
        LatentPairDataset(*paths)


@pytest.fixture
def folders(tmp_path, latents):
    """The latents, one file each."""
    paths = tmp_path / "imagenet256_features", tmp_path / "imagenet256_labels"
    for path, column in zip(paths, latents, strict=True):
        path.mkdir()
        for index, value in enumerate(column.numpy()):
            np.save(path / f"{index}.npy", value[None])
    return paths


def test_folders_of_single_files_are_read_by_number(folders, latents):
    dataset = LatentFilesDataset(*folders)
    features, labels = dataset.items([6, 0, 3])
    assert torch.equal(features, latents[0][[6, 0, 3]])
    assert torch.equal(labels, latents[1][[6, 0, 3]])
    assert (len(dataset), dataset.shape, dataset.num_classes) == (7, (4, 2, 3), 3)


def test_folders_of_different_lengths_are_refused_by_both_names(folders):
    (folders[1] / "6.npy").unlink()
    with pytest.raises(ValueError, match=r"features contains 7 latents but .*labels 6 labels"):
        LatentFilesDataset(*folders)


def test_a_latent_of_another_shape_is_named(folders):
    np.save(folders[0] / "3.npy", np.zeros((1, 4, 3, 2), np.float32))
    with pytest.raises(ValueError, match=r"3\.npy has shape \(4, 3, 2\) but .*0\.npy"):
        LatentFilesDataset(*folders).items([3])


@pytest.mark.parametrize(
    "given",
    [{}, {"features": "f"}, {"labels": "l"}, {"root": "r", "features": "f", "labels": "l"}],
)
def test_config_requires_either_a_root_or_a_pair(given):
    with pytest.raises(ValueError, match="set root alone, or both features and labels"):
        LatentsDataConfig(**given)


def test_a_header_larger_than_its_file_takes_no_memory(write_pair):
    features, labels = write_pair(np.zeros((2, 4, 2, 3), np.float32), np.array([0, 1]))
    with open(labels, "wb") as file:
        header = {"descr": "<i8", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ValueError, match=r"labels\.npy cannot be read as a \.npy array"):
        LatentPairDataset(features, labels)


def test_an_archive_is_no_array(tmp_path, write_pair):
    features, _ = write_pair(np.zeros((2, 4, 2, 3), np.float32), np.array([0, 1]))
    np.savez(tmp_path / "both.npz", a=np.zeros(2))
    with pytest.raises(ValueError, match=r"both\.npz cannot be read .*an archive"):
        LatentPairDataset(features, tmp_path / "both.npz")

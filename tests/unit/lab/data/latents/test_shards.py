import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from harope.lab.data.dataset import loader
from harope.lab.data.latents.manifest import load_manifest
from harope.lab.data.latents.shards import LatentShardDataset, LatentShardWriter


def test_items_are_indexed_across_shards(shards, latents):
    dataset = LatentShardDataset(shards)
    features, labels = dataset.items([6, 0, 3, 2])
    assert torch.equal(features, latents[0][[6, 0, 3, 2]])
    assert torch.equal(labels, latents[1][[6, 0, 3, 2]])
    assert (len(dataset), dataset.shape, dataset.num_classes) == (7, (4, 2, 3), 3)


def test_shards_are_plain_safetensors_listed_in_the_manifest(shards, latents):
    listed = json.loads((shards / "manifest.json").read_text())
    assert [(shard["name"], shard["count"]) for shard in listed["shards"]] == [
        ("shard-00000.safetensors", 3),
        ("shard-00001.safetensors", 3),
        ("shard-00002.safetensors", 1),
    ]
    second = load_file(shards / "shard-00001.safetensors")
    assert torch.equal(second["features"], latents[0][3:6])
    assert torch.equal(second["labels"], latents[1][3:6])


def test_manifest_is_read_as_it_was_written(shards, manifest):
    assert replace(load_manifest(shards), shards=()) == manifest


def test_writer_leaves_no_temporary_files(shards):
    assert sorted(path.suffix for path in shards.iterdir()) == [".json"] + [".safetensors"] * 3


@pytest.mark.parametrize("batch", [1, 2, 5, 7])
def test_shards_do_not_depend_on_the_batches_that_fill_them(tmp_path, latents, manifest, batch):
    writer = LatentShardWriter(tmp_path, manifest, shard_size=3)
    for features, labels in zip(*(column.split(batch) for column in latents), strict=True):
        writer.add(features, labels)
    assert [shard.count for shard in load_manifest(tmp_path).shards] == [3, 3, 1]
    assert torch.equal(LatentShardDataset(tmp_path).items(range(7))[0], latents[0])


def test_half_precision_is_stored_and_read_back_as_float32(tmp_path, latents, manifest):
    half = replace(manifest, dtype="float16")
    LatentShardWriter(tmp_path, half, shard_size=7).add(*latents)
    assert load_file(tmp_path / "shard-00000.safetensors")["features"].dtype == torch.float16
    assert torch.equal(LatentShardDataset(tmp_path).items(range(7))[0], latents[0].half().float())


def test_writer_resumes_after_the_last_complete_shard(tmp_path, latents, manifest):
    features, labels = latents
    LatentShardWriter(tmp_path, manifest, shard_size=3).add(features[:5], labels[:5])
    writer = LatentShardWriter(tmp_path, manifest, shard_size=3)
    assert writer.ranges[0].start == 3
    writer.add(features[3:], labels[3:])
    assert torch.equal(LatentShardDataset(tmp_path).items(range(7))[0], features)


def test_incomplete_folders_are_refused_with_their_counts(tmp_path, latents, manifest):
    LatentShardWriter(tmp_path, manifest, shard_size=3).add(latents[0][:5], latents[1][:5])
    with pytest.raises(
        ValueError, match="contains 3 of 7 latents: run the same `harope encode` again"
    ):
        LatentShardDataset(tmp_path)


def test_writer_refuses_a_folder_of_another_encoding(shards, manifest):
    other = replace(manifest, encoding=replace(manifest.encoding, scaling_factor=0.25))
    with pytest.raises(ValueError, match=r"begun with scaling_factor 0\.5, not 0\.25"):
        LatentShardWriter(shards, other, shard_size=3)


def test_shards_without_latents_are_refused(tmp_path, manifest):
    with pytest.raises(ValueError, match="shard_size must be at least 1, got 0"):
        LatentShardWriter(tmp_path, manifest, shard_size=0)


def test_a_truncated_shard_is_named(shards):
    path = shards / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"shard-00001\.safetensors is damaged"):
        LatentShardDataset(shards)


def test_a_shard_of_another_length_is_named(shards, latents):
    path = shards / "shard-00001.safetensors"
    save_file({"features": latents[0][:2].clone(), "labels": latents[1][:2].clone()}, path)
    with pytest.raises(
        ValueError, match=r"shard-00001\.safetensors contains 2 latents but .* lists 3"
    ):
        LatentShardDataset(shards)


def test_labels_out_of_range_are_refused(shards):
    with pytest.raises(ValueError, match=r"contains label 2, .* \[0, num_classes 2\)"):
        LatentShardDataset(shards, num_classes=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version is 2, but this program reads 1"),
        ({"extra": 0}, "extra"),
        ({"shards": None}, "cannot be read"),
    ],
)
def test_a_manifest_of_another_form_is_named(shards, change, message):
    path = shards / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"manifest\.json cannot be read .*{message}|{message}"):
        LatentShardDataset(shards)


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        LatentShardDataset(tmp_path)


def test_workers_and_pickles_reopen_the_shards(shards, latents):
    dataset = LatentShardDataset(shards)
    assert torch.equal(pickle.loads(pickle.dumps(dataset)).items([4])[0], latents[0][4:5])
    here, there = (loader(dataset, batch_size=7, num_workers=workers) for workers in (0, 2))
    assert torch.equal(next(here)[0], next(there)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total": "many"}, "total: .*'many'"),
        ({"shape": [4, 2]}, "shape"),
        ({"shape": [4, 0, 3]}, r"shape \(4, 0, 3\), total 7 .* must be positive"),
        ({"total": 6}, "the shards' 7 latents at most the total"),
        ({"dtype": "int8"}, "dtype"),
        ({"shards": [{"name": "../a.safetensors", "count": 7}]}, "'../a.safetensors'"),
        ({"shards": [{"name": "a.safetensors", "count": 0}]}, "at least 1 latent, got 0"),
        ({"encoding": {"vae": "x"}}, r"encoding\.scaling_factor is missing"),
        ({"version": None}, "its version is None"),
    ],
)
def test_manifests_are_validated(shards, change, message):
    path = shards / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"manifest\.json cannot be read \(.*{message}"):
        LatentShardDataset(shards)


@pytest.mark.parametrize("text", ["[]", "null", "[" * 100_000, ""])
def test_other_json_is_no_manifest(shards, text):
    (shards / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json cannot be read"):
        LatentShardDataset(shards)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"features": torch.zeros(3, 4, 2, 3)}, "has the tensors features instead of"),
        (
            {"features": torch.zeros(3, 4, 2, 2), "labels": torch.zeros(3, dtype=torch.int64)},
            r"contains latents of shape \[3, 4, 2, 2\] but manifest\.json says \[3, 4, 2, 3\]",
        ),
    ],
)
def test_shards_of_other_tensors_are_named(shards, tensors, message):
    save_file(tensors, shards / "shard-00001.safetensors")
    with pytest.raises(ValueError, match=rf"shard-00001\.safetensors {message}"):
        LatentShardDataset(shards)


def test_a_missing_shard_is_named(shards):
    (shards / "shard-00001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"shard-00001\.safetensors is damaged"):
        LatentShardDataset(shards)

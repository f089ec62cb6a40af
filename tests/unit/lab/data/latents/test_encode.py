import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from harope._utils.shards import Workers
from harope.lab.data.dataset import FiniteLabelledDataset
from harope.lab.data.labelled.folder import ImageFolderDataset
from harope.lab.data.latents.encode import encode_images
from harope.lab.data.latents.files import LatentPairDataset
from harope.lab.data.latents.manifest import load_manifest
from harope.lab.data.latents.shards import LatentShardDataset
from harope.lab.data.latents.vae import encode_latents, load_vae
from harope.lab.data.synthetic import make_image_folder


@pytest.fixture(scope="module")
def vae(vae_folder):
    return load_vae(vae_folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Seven images of 16 x 16 in five classes."""
    root = tmp_path_factory.mktemp("images")
    make_image_folder(root, num=7, image_size=16)
    return ImageFolderDataset(root, image_size=16)


class Interrupted(Exception):
    """Exception that simulates a killed process."""


class Failing(FiniteLabelledDataset):
    """Dataset that stops before its fifth item."""

    def __init__(self, dataset):
        super().__init__(len(dataset), seed=0)
        self.dataset, self.shape, self.num_classes = dataset, dataset.shape, dataset.num_classes

    @property
    def identity(self):
        return self.dataset.identity

    def files_digest(self, *, times=False):
        return self.dataset.files_digest(times=times)

    def items(self, indices):
        if 4 in indices:
            raise Interrupted
        return self.dataset.items(indices)


def close(actual, expected):
    """Compare with a tolerance, as convolutions round differently for other batch sizes."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def all_items(dataset):
    return dataset.items(range(len(dataset)))


def test_mode_latents_are_in_the_order_of_the_images(dataset, vae, tmp_path):
    out = encode_images(dataset, vae, tmp_path, posterior="mode", batch_size=3, shard_size=4)
    images, labels = all_items(dataset)
    latents, read_labels = all_items(LatentShardDataset(out))
    close(latents, encode_latents(vae, images))
    assert torch.equal(read_labels, labels)


def test_manifest_describes_the_encoding(dataset, vae, tmp_path, vae_folder):
    manifest = load_manifest(encode_images(dataset, vae, tmp_path, dtype="float16", seed=3))
    assert (manifest.shape, manifest.dtype, manifest.total) == ((4, 8, 8), "float16", 7)
    assert manifest.num_classes == 5
    assert manifest.encoding.vae == str(vae_folder)
    assert (manifest.encoding.scaling_factor, manifest.encoding.shift_factor) == (0.3611, 0.1159)
    assert (manifest.encoding.image_size, manifest.encoding.seed) == (16, 3)


def test_flips_add_a_mirrored_latent_after_each(dataset, vae, tmp_path):
    encode_images(dataset, vae, tmp_path, flip=True, posterior="mode", batch_size=2, shard_size=2)
    images, labels = all_items(dataset)
    latents, read_labels = all_items(LatentShardDataset(tmp_path))
    close(latents[0::2], encode_latents(vae, images))
    close(latents[1::2], encode_latents(vae, images.flip(-1)))
    assert torch.equal(read_labels, labels.repeat_interleave(2))


def test_posterior_noise_is_standard_normal_and_its_own_for_each_latent(dataset, vae, tmp_path):
    encode_images(dataset, vae, tmp_path, flip=True)
    images, _ = all_items(dataset)
    images = torch.stack([images, images.flip(-1)], dim=1).flatten(0, 1)
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
    z = all_items(LatentShardDataset(tmp_path))[0] / 0.3611 + 0.1159
    noise = (z - posterior.mean) / posterior.std
    # 14 x 256 values: five standard errors are 0.084 for the mean and 0.059 for the deviation.
    assert abs(noise.mean()) < 0.084
    assert abs(noise.std() - 1) < 0.059
    # Correlation of any two of the latents' noises, five standard errors over 256 values.
    assert torch.corrcoef(noise.flatten(1)).fill_diagonal_(0).abs().max() < 5 / 16


def test_samples_do_not_depend_on_batches_shards_or_workers(dataset, vae, tmp_path):
    encode_images(dataset, vae, tmp_path / "a", batch_size=7, shard_size=7)
    encode_images(dataset, vae, tmp_path / "b", batch_size=2, shard_size=3, num_workers=2)
    close(
        all_items(LatentShardDataset(tmp_path / "b"))[0],
        all_items(LatentShardDataset(tmp_path / "a"))[0],
    )


def test_seeds_give_other_samples(dataset, vae, tmp_path):
    first, second = (
        all_items(LatentShardDataset(encode_images(dataset, vae, tmp_path / str(seed), seed=seed)))
        for seed in (0, 1)
    )
    assert not torch.allclose(first[0], second[0], atol=1e-3)


@pytest.mark.parametrize("form", ["shards", "npy"])
@pytest.mark.parametrize("flip", [False, True])
def test_an_interrupted_encoding_is_completed(dataset, vae, tmp_path, form, flip):
    options = {"form": form, "batch_size": 1, "shard_size": 2, "flip": flip}
    with pytest.raises(Interrupted):
        encode_images(Failing(dataset), vae, tmp_path / "twice", **options)
    for name in ("once", "twice"):
        encode_images(dataset, vae, tmp_path / name, **options)
    for path in (tmp_path / "once").iterdir():
        assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes()


def test_a_complete_folder_is_left_as_it_is(dataset, vae, tmp_path):
    first = encode_images(dataset, vae, tmp_path, batch_size=7)
    before = {path: path.stat().st_mtime_ns for path in first.glob("shard-*")}
    encode_images(Failing(dataset), vae, tmp_path, batch_size=7)
    assert {path: path.stat().st_mtime_ns for path in first.glob("shard-*")} == before


def test_npy_pair_contains_the_same_latents_as_shards(dataset, vae, tmp_path):
    encode_images(dataset, vae, tmp_path / "npy", form="npy", dtype="float16")
    encode_images(dataset, vae, tmp_path / "shards", form="shards", dtype="float16")
    pair = LatentPairDataset(tmp_path / "npy/features.npy", tmp_path / "npy/labels.npy")
    assert np.load(tmp_path / "npy/features.npy").dtype == np.float16
    for ours, theirs in zip(
        all_items(pair), all_items(LatentShardDataset(tmp_path / "shards")), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_an_unfinished_pair_has_no_labels_file(dataset, vae, tmp_path):
    with pytest.raises(Interrupted):
        encode_images(Failing(dataset), vae, tmp_path, form="npy", batch_size=2)
    assert not (tmp_path / "labels.npy").exists()


@pytest.mark.parametrize("form", ["shards", "npy"])
def test_a_folder_with_other_options_is_refused(dataset, vae, tmp_path, form):
    encode_images(dataset, vae, tmp_path, form=form)
    with pytest.raises(ValueError, match="begun with posterior 'sample', not 'mode'"):
        encode_images(dataset, vae, tmp_path, form=form, posterior="mode")


@pytest.mark.parametrize("form", ["shards", "npy"])
def test_other_images_are_refused(vae, tmp_path, form):
    """As many, of the same names and sizes, written later; the latents are those of the first."""
    for name in ("first", "second"):
        make_image_folder(tmp_path / name, num=5, image_size=16)
    encode_images(ImageFolderDataset(tmp_path / "first", 16), vae, tmp_path / "out", form=form)
    with pytest.raises(ValueError, match=r"out was begun with images '\w+', not '\w+': choose"):
        encode_images(ImageFolderDataset(tmp_path / "second", 16), vae, tmp_path / "out", form=form)


def test_other_weights_of_the_vae_are_refused(dataset, vae_folder, tmp_path):
    encode_images(dataset, load_vae(vae_folder), tmp_path)
    other = load_vae(vae_folder)
    other.quant_conv.bias.data += 1e-3
    with pytest.raises(ValueError, match=r"begun with vae_weights '\w+', not '\w+'"):
        encode_images(dataset, other, tmp_path)


def test_the_same_vae_may_have_another_path(dataset, vae_folder, vae, tmp_path):
    encode_images(dataset, vae, tmp_path, shard_size=2)
    elsewhere = load_vae(os.path.relpath(vae_folder))
    encode_images(Failing(dataset), elsewhere, tmp_path, shard_size=2)


def test_latents_of_an_earlier_version_are_read(dataset, vae, tmp_path):
    path = encode_images(dataset, vae, tmp_path) / "manifest.json"
    values = json.loads(path.read_text())
    del values["encoding"]["images"], values["encoding"]["vae_weights"]
    path.write_text(json.dumps(values))
    assert len(LatentShardDataset(tmp_path)) == 7


def test_a_pair_that_was_killed_at_its_end_is_completed(dataset, vae, tmp_path):
    encode_images(dataset, vae, tmp_path, form="npy")
    (tmp_path / "labels.npy").rename(tmp_path / ".labels.npy.partial")
    encode_images(dataset, vae, tmp_path, form="npy")
    assert np.load(tmp_path / "labels.npy").tolist() == all_items(dataset)[1].tolist()


def test_two_processes_cannot_write_one_folder(dataset, vae, tmp_path):
    script = (
        "import sys, harope._utils.folder_lock as f\n"
        f"with f.lock_folder({str(tmp_path)!r}): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ValueError, match=r"is in use by process \d+ .*: wait until it ends"):
            encode_images(dataset, vae, tmp_path)
        other.stdin.close()
    assert len(LatentShardDataset(encode_images(dataset, vae, tmp_path))) == 7


@pytest.mark.parametrize("processes", [2, 5])
def test_processes_write_the_files_that_one_writes(vae, dataset, tmp_path, processes):
    """Also where some have no shard; the main process comes last, as it lists the shards."""
    options = {"batch_size": 3, "shard_size": 2, "flip": True}
    one = encode_images(dataset, vae, tmp_path / "one", **options)
    for rank in reversed(range(processes)):
        workers = Workers(rank=rank, world_size=processes)
        encode_images(dataset, vae, tmp_path / "several", workers=workers, **options)
    assert [file.name for file in sorted((tmp_path / "several").iterdir())] == [
        file.name for file in sorted(one.iterdir())
    ]
    for file in one.iterdir():
        assert file.read_bytes() == (tmp_path / "several" / file.name).read_bytes()


def test_one_process_goes_on_where_several_were_stopped(vae, dataset, tmp_path):
    options = {"batch_size": 3, "shard_size": 2}
    one = encode_images(dataset, vae, tmp_path / "one", **options)
    stopped = shutil.copytree(one, tmp_path / "stopped")
    listed = replace(load_manifest(stopped), shards=load_manifest(stopped).shards[:1])
    listed.save(stopped)
    (stopped / "shard-00002.safetensors").unlink()
    kept = (stopped / "shard-00001.safetensors").stat().st_mtime_ns
    encode_images(dataset, vae, stopped, **options)
    assert (stopped / "shard-00001.safetensors").stat().st_mtime_ns == kept
    assert load_manifest(stopped) == load_manifest(one)


def test_several_processes_cannot_write_one_file(vae, dataset, tmp_path):
    workers = Workers(rank=1, world_size=2)
    with pytest.raises(ValueError, match="form is 'npy', whose one file 2 processes cannot write"):
        encode_images(dataset, vae, tmp_path / "npy", form="npy", workers=workers)
    assert not (tmp_path / "npy").exists()

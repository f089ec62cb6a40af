import numpy as np
import torch

from harope.lab.data.captioned.emoji import EmojiDataConfig, open_emoji
from harope.lab.data.captioned.folder import CaptionedFolderDataConfig, open_captioned_folder
from harope.lab.data.labelled.folder import ImageFolderDataset
from harope.lab.data.labelled.idx import IdxDataset
from harope.lab.data.latents.captioned import CaptionedLatentsDataset
from harope.lab.data.latents.files import LatentPairDataset
from harope.lab.data.synthetic import (
    make_captioned_folder,
    make_captioned_latents,
    make_emoji,
    make_idx,
    make_image_folder,
    make_latent_pair,
)


def test_synthetic_idx_files_hold_ten_classes_in_two_splits(tmp_path):
    make_idx(tmp_path, num=40, seed=0)
    train, test = IdxDataset(tmp_path, "train"), IdxDataset(tmp_path, "test")
    assert train.shape == test.shape == (1, 28, 28)
    assert torch.bincount(train.items(range(40))[1]).tolist() == [4] * 10
    assert not torch.equal(train.items(range(40))[0], test.items(range(40))[0])


def test_synthetic_digits_are_bright_on_black(tmp_path):
    make_idx(tmp_path, num=10, seed=0)
    images, _ = IdxDataset(tmp_path).items(range(10))
    assert images.amin(dim=(1, 2, 3)).tolist() == [-1] * 10
    assert images.amax(dim=(1, 2, 3)).tolist() == [1] * 10


def test_synthetic_data_repeats_with_its_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_idx(tmp_path / name, num=5, seed=seed)
    first, second, third = (
        (tmp_path / name / "train-images-idx3-ubyte").read_bytes() for name in "abc"
    )
    assert first == second != third


def test_synthetic_image_folder_has_one_class_per_kind(tmp_path):
    make_image_folder(tmp_path, num=12, image_size=24)
    dataset = ImageFolderDataset(tmp_path, image_size=24)
    assert (len(dataset), dataset.num_classes) == (12, 5)


def test_synthetic_latents_have_unit_variance_and_all_classes(tmp_path):
    paths = make_latent_pair(tmp_path, num=400, shape=(2, 4, 4), num_classes=8)
    dataset = LatentPairDataset(*paths)
    assert (dataset.shape, dataset.num_classes, len(dataset)) == ((2, 4, 4), 8, 400)
    assert np.load(paths[0]).dtype == np.float32
    within = [dataset.items(range(label, 400, 8))[0].var(dim=0).mean() for label in range(8)]
    # 1 - 0.5^2 inside a class; 12800 values of 50 latents: the standard error is 0.009.
    assert abs(float(torch.stack(within).mean()) - 0.75) < 0.05


def test_synthetic_captioned_images_each_have_a_caption(tmp_path):
    make_captioned_folder(tmp_path, num=5, image_size=8)
    dataset = open_captioned_folder(CaptionedFolderDataConfig(root=str(tmp_path), image_size=8), 0)
    images, captions = dataset.items(range(len(dataset)))
    assert images.shape == (5, 3, 8, 8)
    assert all("picture of" in caption for caption in captions)


def test_synthetic_captioned_latents_have_two_captions_each(tmp_path):
    make_captioned_latents(tmp_path, num=5, shape=(2, 4, 4))
    dataset = CaptionedLatentsDataset(tmp_path)
    assert (dataset.shape, len(dataset)) == ((2, 4, 4), 5)
    assert [len(dataset.captions(index)) for index in range(5)] == [2] * 5


def test_synthetic_emoji_are_read_as_a_package(tmp_path):
    make_emoji(tmp_path, num=12)
    both = [
        open_emoji(EmojiDataConfig(root=str(tmp_path), image_size=8, split=split), 0)
        for split in ("train", "test")
    ]
    assert sum(map(len, both)) == 12
    assert both[0].samples(range(2))[0].shape == (2, 3, 8, 8)

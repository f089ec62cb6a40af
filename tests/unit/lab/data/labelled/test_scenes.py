import numpy as np
import pytest
import torch
from scipy import ndimage

from harope.lab.data.labelled.scenes import ScenesDataConfig, ScenesDataset
from harope.lab.scenes.grammar import COLORS, decode_class


def test_scenes_have_the_colour_and_count_of_their_label():
    images, labels = ScenesDataset(image_size=64, seed=1).samples(range(20))
    for image, label in zip((images + 1) / 2, labels.tolist(), strict=True):
        _, color, count = decode_class(label)
        inked = (image < 0.99).any(dim=0)
        assert ndimage.label(inked.numpy(), structure=np.ones((3, 3)))[1] == count
        assert torch.allclose(image.amin(dim=(1, 2)), torch.tensor(COLORS[color]), atol=1e-6)


def test_a_sample_depends_only_on_its_number():
    dataset = ScenesDataset(image_size=16, seed=1)
    images, labels = dataset.samples([5, 3, 8])
    alone, label = ScenesDataset(image_size=16, seed=1).samples([3])
    assert torch.equal(images[1], alone[0])
    assert labels[1] == label[0]


def test_seeds_give_other_scenes():
    first, second = (
        ScenesDataset(image_size=16, seed=seed).samples(range(4))[0] for seed in (0, 1)
    )
    assert not torch.equal(first, second)


def test_background_is_one_and_values_span_no_more():
    images, _ = ScenesDataset(image_size=16, seed=0).samples(range(8))
    assert images.max() == 1
    assert images.min() >= -1


def test_labels_are_spread_over_all_classes():
    dataset = ScenesDataset(image_size=1, seed=0)
    _, labels = dataset.samples(range(2000))
    # 180 classes, 11.1 draws expected of each: a class without any has a chance of 1.4e-5.
    assert torch.bincount(labels, minlength=dataset.num_classes).min() > 0
    assert labels.max() < dataset.num_classes


def test_sizes_and_seeds_below_the_smallest_are_refused():
    with pytest.raises(ValueError, match="image_size must be at least 1, got 0"):
        ScenesDataConfig(image_size=0)
    with pytest.raises(ValueError, match="seed must be 0 or greater, got -1"):
        ScenesDataset(seed=-1)

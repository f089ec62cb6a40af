import numpy as np
import torch
from sklearn.datasets import load_digits

from harope.lab.data.labelled.digits import DigitsDataset


def test_digits_span_minus_one_to_one_and_keep_their_labels():
    dataset, digits = DigitsDataset(), load_digits()
    images, labels = dataset.items(range(len(dataset)))
    np.testing.assert_array_equal((images[:, 0].numpy() + 1) * 8, digits.images)
    np.testing.assert_array_equal(labels, digits.target)
    assert (len(dataset), dataset.shape, dataset.num_classes) == (1797, (1, 8, 8), 10)
    assert (images.min(), images.max()) == (-1, 1)


def test_every_fifth_digit_is_a_test_image():
    whole, train, test = (DigitsDataset(split=split) for split in ("all", "train", "test"))
    assert (len(train), len(test)) == (1438, 359)
    images, labels = whole.items(range(9))
    assert torch.equal(train.items(range(7))[0], images[[0, 1, 2, 3, 5, 6, 7]])
    held_out, held_out_labels = test.items([0])
    assert torch.equal(held_out[0], images[4])
    assert held_out_labels == labels[4]

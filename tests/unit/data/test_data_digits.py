import numpy as np
from sklearn.datasets import load_digits

from harope.data.digits import DigitsSource


def test_digits_span_minus_one_to_one_and_keep_their_labels():
    source, digits = DigitsSource(), load_digits()
    images, labels = source.items(range(len(source)))
    np.testing.assert_array_equal((images[:, 0].numpy() + 1) * 8, digits.images)
    np.testing.assert_array_equal(labels, digits.target)
    assert (len(source), source.shape, source.num_classes) == (1797, (1, 8, 8), 10)
    assert (images.min(), images.max()) == (-1, 1)

import numpy as np
import pytest

from harope.lab.metrics.inception_score import inception_score


def sure(labels, classes):
    """Logits that leave no doubt."""
    return 1000 * np.eye(classes, dtype=np.float32)[labels]


def test_sure_and_even_images_score_the_number_of_classes():
    assert inception_score(sure(np.arange(20) % 5, 5)).mean == pytest.approx(5)


def test_images_that_are_all_alike_score_one():
    logits = np.tile(np.array([[0.3, 2.0, -1.0]], np.float32), (8, 1))
    assert inception_score(logits).mean == pytest.approx(1)


def test_adms_splits_are_consecutive_five_thousands():
    """Each 5,000 holds one class: every split scores 1, and all together would score 2."""
    found = inception_score(sure(np.repeat([0, 1], 5000), 2))
    assert found == pytest.approx((1, 0, 2))
    found = inception_score(sure(np.repeat([0, 1, 2], [2500, 2500, 1000]), 3))
    assert found == pytest.approx((1.5, 0.5, 2))


def test_torch_fidelitys_splits_are_shuffled():
    logits = sure(np.repeat([0, 1], 500), 2)
    found = inception_score(logits, "torch-fidelity")
    assert found.parts == 10
    assert found.mean > 1.9


def test_fewer_images_than_splits_are_refused():
    with pytest.raises(ValueError, match="9 images do not fill 10 splits"):
        inception_score(sure(np.arange(9), 9), "torch-fidelity")

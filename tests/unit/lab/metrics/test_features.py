import numpy as np
import pytest
import torch

from harope.lab.metrics.features import (
    FunctionExtractor,
    channels_first,
    load_extractor,
)
from support.distance import mean_colour, noise


def test_a_function_becomes_an_extractor():
    images = noise(4)
    found = mean_colour()(torch.from_numpy(images))
    np.testing.assert_allclose(found.features, images.mean(axis=(1, 2)) / 255, rtol=1e-5)
    assert found.logits is None
    assert found.spatial is None


def test_a_function_of_another_shape_is_named():
    extractor = FunctionExtractor(lambda images: images[:, 0, 0], name="wrong", features_dim=5)
    with pytest.raises(ValueError, match=r"wrong gave \(2, 3\) for 2 images: .* \(batch, 5\)"):
        extractor(torch.from_numpy(noise(2)))


def test_channels_come_first():
    images = torch.from_numpy(noise(2))
    assert torch.equal(channels_first(images, "cpu")[:, 1], images[..., 1])


def test_lite0_takes_no_weights():
    with pytest.raises(ValueError, match="lite0 has the weights of its package"):
        load_extractor("lite0", "other.pth")

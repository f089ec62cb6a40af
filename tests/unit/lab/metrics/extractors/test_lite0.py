import pytest
import torch

from harope.lab.metrics.features import load_extractor
from support.distance import noise


@pytest.fixture(scope="module")
def lite0():
    return load_extractor("lite0")


def test_features_are_the_input_of_the_classifier(lite0):
    """The package's own forward, from images prepared as its readme says."""
    images = torch.from_numpy(noise(2, 64, 80))
    unit = images.permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits = lite0._network((255 * unit - 127) / 128)
    found = lite0(images)
    assert found.features.shape == (2, lite0.features_dim)
    torch.testing.assert_close(found.logits, logits)


def test_small_images_are_enlarged(lite0):
    small = torch.from_numpy(noise(1, 28, 28))
    assert torch.isfinite(lite0(small).features).all()


def test_features_do_not_depend_on_the_batch(lite0):
    images = torch.from_numpy(noise(3, 64, 64))
    alone = torch.cat([lite0(image[None]).features for image in images])
    torch.testing.assert_close(lite0(images).features, alone, rtol=1e-4, atol=1e-5)

"""Distances from images through one network, ours against torchmetrics'."""

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from harope.lab.metrics.compute import compute_features
from harope.lab.metrics.features import FunctionExtractor
from harope.lab.metrics.frechet import frechet_distance
from harope.lab.metrics.image_sets import open_images
from harope.lab.metrics.inception_score import inception_score
from harope.lab.metrics.kid import kernel_distance
from support.distance import noise, write_folder

DIM = 8


class Network(nn.Module):
    """A linear map of the pixels to features or logits."""

    num_features = DIM

    def __init__(self):
        super().__init__()
        self.register_buffer(
            "weight", torch.randn(90, DIM, generator=torch.Generator().manual_seed(0)) / 10
        )

    def forward(self, images):
        return (images.to(self.weight.dtype) / 255).flatten(1) @ self.weight


@pytest.fixture
def sides(tmp_path):
    arrays = noise(40), noise(50, seed=1) // 2
    network = Network()
    extractor = FunctionExtractor(
        lambda images: network(images.permute(0, 3, 1, 2)), name="linear", features_dim=DIM
    )
    measured = []
    for number, array in enumerate(arrays):
        folder = write_folder(tmp_path / str(number), array)
        measured.append(compute_features(open_images(folder), extractor, batch_size=16))
    return measured, [torch.from_numpy(array).permute(0, 3, 1, 2) for array in arrays]


def test_the_frechet_distance(sides):
    (samples, reference), (fakes, reals) = sides
    theirs = FrechetInceptionDistance(feature=Network(), antialias=False).set_dtype(torch.float64)
    theirs.update(reals, real=True)
    theirs.update(fakes, real=False)
    ours = frechet_distance(samples.moments.gaussian(), reference.moments.gaussian())
    assert ours == pytest.approx(theirs.compute().item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all")
def test_the_kernel_distance_of_whole_sets(sides):
    (samples, reference), (fakes, reals) = sides
    theirs = KernelInceptionDistance(feature=Network(), subsets=1, subset_size=40)
    theirs.update(reals[:40], real=True)
    theirs.update(fakes, real=False)
    ours = kernel_distance(samples.features, reference.features[:40], subsets=1, subset_size=40)
    assert ours.mean == pytest.approx(theirs.compute()[0].item(), rel=1e-4)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save all")
@pytest.mark.filterwarnings("ignore:std.*degrees of freedom")
def test_the_inception_score_of_one_split(sides):
    (samples, _), (fakes, _) = sides
    theirs = InceptionScore(feature=Network(), splits=1)
    theirs.update(fakes)
    ours = inception_score(samples.features)
    np.testing.assert_allclose(ours.mean, theirs.compute()[0].item(), rtol=1e-5)

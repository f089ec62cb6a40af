"""Small images and a network that is quick to understand, for distances."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from harope.lab.metrics.features import Features, FunctionExtractor


def noise(count: int, height: int = 6, width: int = 5, seed: int = 0) -> np.ndarray:
    shape = (count, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write_folder(folder: Path, images: np.ndarray, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images, first):
        Image.fromarray(image).save(folder / f"{index:06d}.png")
    return folder


def mean_colour(name: str = "colour", weights: str = "") -> FunctionExtractor:
    """Three features, the mean of each channel in [0, 1]."""
    return FunctionExtractor(
        lambda images: images.float().mean(dim=(1, 2)) / 255,
        name=name,
        features_dim=3,
        weights=weights,
    )


class Rich:
    """All that an extractor may give: three features, logits of three classes, 12 in places."""

    name, display_name, features_dim, resize, weights = "inception", "Inception", 3, "none", "w"
    has_logits = has_spatial = True

    def __call__(self, images: torch.Tensor) -> Features:
        features = mean_colour()(images).features
        return Features(features, 5 * features, images[:, :2, :2].flatten(1).float())

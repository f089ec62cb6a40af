"""Endless class-conditional images of coloured shapes, rendered on the fly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from numpy.random import Generator

from harope.lab.data.dataset import Batch, ImageDataConfig, LabelledDataset, check_seed
from harope.lab.scenes.grammar import (
    COLORS,
    KINDS,
    MAX_COUNT,
    NUM_CLASSES,
    Scene,
    class_prompt,
    encode_class,
    rng_for,
    sample_scene,
)
from harope.lab.scenes.render import render


@dataclass(frozen=True, kw_only=True)
class ScenesDataConfig(ImageDataConfig):
    """Rendered scenes labelled by (kind, colour, count): endless, and nothing to download."""

    kind: Literal["scenes"] = "scenes"
    image_size: int = 32
    """Height and width in pixels."""


class ScenesDataset(LabelledDataset):
    """RGB scenes (3, image_size, image_size) of the grammar's classes.

    Half of the samples show one object and half show 2 to 6, so that a model practises equally
    what a class is scored on: which objects there are, and how many. Otherwise labels are uniform.
    Label and layout depend on the seed and the sample number only.

    Args:
        image_size: Height and width in pixels.
        seed: Seed of the scenes.

    Raises:
        ValueError: If the seed is negative.
    """

    num_classes = NUM_CLASSES

    def __init__(self, image_size: int = 32, seed: int = 0):
        check_seed(seed)
        self.shape = (3, image_size, image_size)
        self._seed = seed

    def samples(self, numbers: Sequence[int]) -> Batch:
        labels, scenes = zip(
            *(_sample(rng_for(self._seed, number)) for number in numbers), strict=True
        )
        images = render(scenes, self.shape[1]) * 2 - 1
        return images, torch.tensor(labels, dtype=torch.int64)


def _sample(rng: Generator) -> tuple[int, Scene]:
    kind = KINDS[int(rng.random() * len(KINDS))]
    color = list(COLORS)[int(rng.random() * len(COLORS))]
    count = 1 if rng.random() < 0.5 else 2 + int(rng.random() * (MAX_COUNT - 1))
    label = encode_class(kind, color, count)
    return label, sample_scene(class_prompt(label), rng)

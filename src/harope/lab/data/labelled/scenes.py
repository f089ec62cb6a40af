"""Endless class-conditional pictures of coloured shapes, rendered on the fly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from numpy.random import Generator

from harope.lab.data.dataset import Batch, Source
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
class ScenesDataConfig:
    """Rendered scenes, labelled by (kind, colour, count): no data to fetch, no end."""

    kind: Literal["scenes"] = "scenes"
    image_size: int = 32
    """Height and width in pixels."""

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image_size {self.image_size} must be at least 1")


class ScenesDataset(Source):
    """RGB scenes (3, image_size, image_size) of the grammar's classes.

    Half of the draws are single objects and half hold 2 to 6, so that both things a class can be
    scored on, what is there and how many, are practised alike. Otherwise labels are uniform.
    """

    num_classes = NUM_CLASSES

    def __init__(self, image_size: int = 32, seed: int = 0):
        if seed < 0:
            raise ValueError(f"seed {seed} is negative: it must be 0 or more")
        self.shape = (3, image_size, image_size)
        self._seed = seed

    def draw(self, numbers: Sequence[int]) -> Batch:
        """The scenes of these draw numbers: label and places come from (seed, number) alone."""
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

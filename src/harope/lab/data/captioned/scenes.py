"""Endless captioned images of coloured shapes for GenEval's six tasks, rendered on the fly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from numpy.random import PCG64, Generator, SeedSequence

from harope.lab.data.captioned.base import CaptionedBatch, CaptionedDataset
from harope.lab.data.dataset import ImageDataConfig, check_seed
from harope.lab.scenes.grammar import TASKS, Prompt, rng_for, sample_prompt, sample_scene
from harope.lab.scenes.render import render


@dataclass(frozen=True, kw_only=True)
class CaptionedScenesDataConfig(ImageDataConfig):
    """Rendered scenes with captions such as "a picture of a red star left of a circle"."""

    kind: Literal["scenes-captions"] = "scenes-captions"
    image_size: int = 32
    """Height and width in pixels."""


class CaptionedScenesDataset(CaptionedDataset):
    """RGB scenes (3, image_size, image_size) with captions; the six tasks are equally likely.

    Prompt and layout depend on the seed and the sample number only.

    Args:
        image_size: Height and width in pixels.
        seed: Seed of the scenes.

    Raises:
        ValueError: If the seed is negative.
    """

    def __init__(self, image_size: int = 32, seed: int = 0):
        check_seed(seed)
        self.shape = (3, image_size, image_size)
        self._seed = seed

    def samples(self, numbers: Sequence[int]) -> CaptionedBatch:
        generators = [rng_for(self._seed, number) for number in numbers]
        prompts = [_sample_prompt(rng) for rng in generators]
        # Layouts continue the random stream of their prompts.
        scenes = [
            sample_scene(prompt, rng) for prompt, rng in zip(prompts, generators, strict=True)
        ]
        images = render(scenes, self.shape[1]) * 2 - 1
        return images, [prompt.caption for prompt in prompts]

    def prompts(self, numbers: Sequence[int]) -> list[Prompt]:
        """Return the prompts of samples, for scoring.

        Args:
            numbers: Sample numbers, each at least 0.

        Returns:
            The prompt of each sample.
        """
        return [_sample_prompt(rng_for(self._seed, number)) for number in numbers]


def held_out_prompts(per_task: int, seed: int = 0) -> list[Prompt]:
    """Sample prompts for scoring a model, task by task.

    Prompt i of a task depends on the seed, the task and i only. The random stream is independent
    of the training samples, but a task with few captions (single_object has five) repeats them.

    Args:
        per_task: Number of prompts for each of the six tasks.
        seed: Seed of the prompts.

    Returns:
        The prompts, all of one task before those of the next.

    Raises:
        ValueError: If `per_task` is below 1.
    """
    if per_task < 1:
        raise ValueError(f"per_task must be at least 1, got {per_task}")
    return [
        sample_prompt(task, Generator(PCG64(SeedSequence(seed, spawn_key=(number, index)))))
        for number, task in enumerate(TASKS)
        for index in range(per_task)
    ]


def _sample_prompt(rng: Generator) -> Prompt:
    return sample_prompt(TASKS[int(rng.random() * len(TASKS))], rng)

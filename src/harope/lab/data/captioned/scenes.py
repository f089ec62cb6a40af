"""Endless captioned pictures of coloured shapes: the six tasks of GenEval, rendered on the fly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from numpy.random import PCG64, Generator, SeedSequence

from harope.lab.data.captioned.base import CaptionedBatch, CaptionedDataset, check_image_size
from harope.lab.scenes.grammar import TASKS, Prompt, rng_for, sample_prompt, sample_scene
from harope.lab.scenes.render import render


@dataclass(frozen=True, kw_only=True)
class CaptionedScenesDataConfig:
    """Rendered scenes with captions such as "a picture of a red star left of a circle"."""

    kind: Literal["scenes-captions"] = "scenes-captions"
    image_size: int = 32
    """Height and width in pixels."""

    def __post_init__(self) -> None:
        check_image_size(self.image_size)


class CaptionedScenesDataset(CaptionedDataset):
    """RGB scenes (3, image_size, image_size) with captions; the six tasks are equally likely."""

    def __init__(self, image_size: int = 32, seed: int = 0):
        if seed < 0:
            raise ValueError(f"seed {seed} is negative: it must be 0 or more")
        self.shape = (3, image_size, image_size)
        self._seed = seed

    def draw(self, numbers: Sequence[int]) -> CaptionedBatch:
        """The scenes of these draw numbers: prompt and places come from (seed, number) alone."""
        generators = [rng_for(self._seed, number) for number in numbers]
        prompts = [_sample_prompt(rng) for rng in generators]
        # The generators go on from where the prompts left them.
        scenes = [
            sample_scene(prompt, rng) for prompt, rng in zip(prompts, generators, strict=True)
        ]
        images = render(scenes, self.shape[1]) * 2 - 1
        return images, [prompt.caption for prompt in prompts]

    def prompts(self, numbers: Sequence[int]) -> list[Prompt]:
        """What the pictures of these draw numbers show, for scoring."""
        return [_sample_prompt(rng_for(self._seed, number)) for number in numbers]


def held_out_prompts(per_task: int, seed: int = 0) -> list[Prompt]:
    """``per_task`` prompts of each of the six tasks, task by task, for scoring a model.

    Prompt i of a task depends on (seed, task, i) alone. The stream shares nothing with the draws
    of a training, though a task of few captions (single_object has five) repeats them.
    """
    if per_task < 1:
        raise ValueError(f"per_task {per_task} must be at least 1")
    return [
        sample_prompt(task, Generator(PCG64(SeedSequence(seed, spawn_key=(number, index)))))
        for number, task in enumerate(TASKS)
        for index in range(per_task)
    ]


def _sample_prompt(rng: Generator) -> Prompt:
    return sample_prompt(TASKS[int(rng.random() * len(TASKS))], rng)

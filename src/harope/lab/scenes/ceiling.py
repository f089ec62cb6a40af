"""Accuracy of the reader on rendered scenes: the ceiling of every score that relies on it."""

from dataclasses import dataclass
from math import hypot

import torch
from jaxtyping import Float
from numpy.random import Generator
from torch import Tensor

from harope._utils.progress import Progress
from harope.lab.scenes.grammar import (
    CLASS_TASK,
    NUM_CLASSES,
    TASKS,
    Prompt,
    Scene,
    Shape,
    class_prompt,
    rng_for,
    sample_prompt,
    sample_scene,
)
from harope.lab.scenes.reader import read_batch
from harope.lab.scenes.render import render
from harope.lab.scenes.score import satisfies

CENTER_TOLERANCE = 0.03
"""Largest error of a centre in an exact reading, as a fraction of the image side."""
RADIUS_TOLERANCE = 0.02
"""Largest error of a radius in an exact reading, as a fraction of the image side."""
_BATCH = 64


@dataclass(frozen=True)
class Degradation:
    """Gaussian blur, then Gaussian noise, clipped to [0, 1]."""

    name: str
    """Name in tables."""
    blur: float = 0.0
    """Standard deviation of the blur in pixels."""
    noise: float = 0.0
    """Standard deviation of the noise per channel."""


DEGRADATIONS = (
    Degradation("clean"),
    Degradation("blur 0.5 px", blur=0.5),
    Degradation("blur 1 px", blur=1.0),
    Degradation("noise 0.05", noise=0.05),
    Degradation("noise 0.1", noise=0.1),
    Degradation("noise 0.2", noise=0.2),
)


@dataclass(frozen=True)
class Ceiling:
    """Success counts of the reader for one task under one degradation."""

    task: str
    """One of `TASKS`, or `CLASS_TASK`."""
    degradation: str
    """Name of the degradation."""
    exact: int
    """Number of images read without any error, see `is_exact`."""
    satisfied: int
    """Number of images whose reading satisfies their own prompt."""
    total: int
    """Number of images."""


def measure_ceiling(size: int, num: int, seed: int, *, quiet: bool = True) -> list[Ceiling]:
    """Measure the reader on rendered scenes of all tasks under all degradations.

    The tasks are `TASKS` and the class prompts; every degradation is applied to the same scenes.

    Args:
        size: Image side in pixels.
        num: Number of images per task and degradation.
        seed: Seed of the scenes and of the noise.
        quiet: Whether to hide the progress bar.

    Returns:
        One `Ceiling` per task and degradation.
    """
    pairs = [(task, item) for task in (*TASKS, CLASS_TASK) for item in DEGRADATIONS]
    with Progress(num * len(pairs), "rendered scenes", quiet=quiet) as bar:
        return [_measure(task, item, size, num, seed, bar) for task, item in pairs]


def is_exact(reading: Scene, truth: Scene) -> bool:
    """Return whether a reading has the right shapes, with centres and radii within the tolerances.

    Centres of a sampled scene are more than twice the tolerance apart, so that no shape of the
    reading can match two of them.

    Args:
        reading: Scene that was read.
        truth: Scene that was rendered.

    Returns:
        True if numbers, kinds, colours, centres and radii agree.
    """
    return len(reading.shapes) == len(truth.shapes) and all(
        any(_agree(shape, other) for other in reading.shapes) for shape in truth.shapes
    )


def degrade(
    images: Float[Tensor, "batch 3 size size"], degradation: Degradation, seed: int
) -> Float[Tensor, "batch 3 size size"]:
    """Apply blur and noise to images.

    Args:
        images: RGB images in [0, 1].
        degradation: Amount of blur and noise.
        seed: Seed of the noise.

    Returns:
        Degraded images in [0, 1], float32 on the CPU.
    """
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(images.cpu().numpy(), (0, 0, degradation.blur, degradation.blur))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator)
    return (torch.from_numpy(blurred) + degradation.noise * noise).clamp(0, 1)


def _measure(
    task: str, degradation: Degradation, size: int, num: int, seed: int, bar: Progress
) -> Ceiling:
    exact = satisfied = 0
    for start in range(0, num, _BATCH):
        pairs = [_sample(task, rng_for(seed, i)) for i in range(start, min(start + _BATCH, num))]
        scenes = [scene for _, scene in pairs]
        readings = read_batch(degrade(render(scenes, size), degradation, seed + start))
        exact += sum(map(is_exact, readings, scenes))
        satisfied += sum(map(satisfies, readings, [prompt for prompt, _ in pairs]))
        bar.update(len(scenes))
    return Ceiling(task, degradation.name, exact, satisfied, num)


def _sample(task: str, rng: Generator) -> tuple[Prompt, Scene]:
    if task == CLASS_TASK:
        prompt = class_prompt(int(rng.random() * NUM_CLASSES))
    else:
        prompt = sample_prompt(task, rng)
    return prompt, sample_scene(prompt, rng)


def _agree(a: Shape, b: Shape) -> bool:
    return (
        (a.kind, a.color) == (b.kind, b.color)
        and hypot(a.x - b.x, a.y - b.y) <= CENTER_TOLERANCE
        and abs(a.radius - b.radius) <= RADIUS_TOLERANCE
    )

"""The reader's own accuracy on rendered scenes: the most that any score read by it can reach."""

from dataclasses import dataclass
from math import hypot

import torch
from jaxtyping import Float
from numpy.random import Generator
from torch import Tensor

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
RADIUS_TOLERANCE = 0.02
_BATCH = 64


@dataclass(frozen=True)
class Degradation:
    """Gaussian blur, then Gaussian noise clipped to [0, 1]."""

    name: str
    blur: float = 0.0
    """Standard deviation in pixels."""
    noise: float = 0.0
    """Standard deviation per channel."""


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
    """Successes of the reader among `total` pictures of one task under one degradation."""

    task: str
    degradation: str
    exact: int
    """Pictures read back without any error; see `is_exact`."""
    satisfied: int
    """Pictures whose reading satisfies their own prompt."""
    total: int


def measure_ceiling(size: int, num: int, seed: int) -> list[Ceiling]:
    """Read `num` pictures of `size` pixels per task and degradation.

    The tasks are `TASKS` and the class prompts; every degradation sees the same scenes.
    """
    tasks = (*TASKS, CLASS_TASK)
    return [_measure(task, how, size, num, seed) for task in tasks for how in DEGRADATIONS]


def is_exact(reading: Scene, drawn: Scene) -> bool:
    """Whether count, kinds and colours agree, and centres and radii within the tolerances.

    Drawn centres lie far more than twice the tolerance apart, so no reading serves two of them.
    """
    return len(reading.shapes) == len(drawn.shapes) and all(
        any(_agree(shape, other) for other in reading.shapes) for shape in drawn.shapes
    )


def degrade(
    images: Float[Tensor, "batch 3 size size"], how: Degradation, seed: int
) -> Float[Tensor, "batch 3 size size"]:
    """Blurred and noisy copies of pictures in [0, 1], on the CPU."""
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(images.cpu().numpy(), (0, 0, how.blur, how.blur))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator)
    return (torch.from_numpy(blurred) + how.noise * noise).clamp(0, 1)


def _measure(task: str, how: Degradation, size: int, num: int, seed: int) -> Ceiling:
    exact = satisfied = 0
    for start in range(0, num, _BATCH):
        pairs = [_draw(task, rng_for(seed, i)) for i in range(start, min(start + _BATCH, num))]
        drawn = [scene for _, scene in pairs]
        readings = read_batch(degrade(render(drawn, size), how, seed + start))
        exact += sum(map(is_exact, readings, drawn))
        satisfied += sum(map(satisfies, readings, [prompt for prompt, _ in pairs]))
    return Ceiling(task, how.name, exact, satisfied, num)


def _draw(task: str, rng: Generator) -> tuple[Prompt, Scene]:
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

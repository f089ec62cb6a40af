"""A recipe: a complete configuration by name, and its smoke form on made data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from harope.lab.training.config import RunConfig, TrainConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig

C = TypeVar("C", bound=RunConfig)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One entry of `harope recipes`."""

    name: str
    """What the command line calls it."""
    summary: str
    """One line: model, data, process."""
    config: Callable[[], RunConfig]
    """The full configuration."""
    smoke: Callable[[Path], RunConfig]
    """The same code path in seconds; made data, if any, is written into the folder given."""
    prepare: Callable[[RunConfig], None] | None = None
    """Makes what the full configuration starts from and is not there yet."""


_BRIEF: dict[str, Any] = {
    "steps": 4,
    "batch_size": 4,
    "num_workers": 0,
    "log_every": 2,
    "checkpoint_every": 2,
    "sample_every": 4,
}


def brief(config: C, **changes: Any) -> C:
    """The configuration with tiny batches and a handful of steps, and other changes."""
    return replace(config, **_BRIEF, **changes)


def shrink_dit(config: TrainConfig, num_steps: int = 4) -> TrainConfig:
    """The configuration with a tiny network, tiny batches and a handful of steps."""
    return replace(
        config,
        **_BRIEF,
        model=replace(config.model, depth=2, width=32, num_heads=2),
        sampling=replace(config.sampling, num_steps=num_steps),
        num_samples=4,
    )


def shrink_mmdit(config: TextToImageConfig, num_steps: int = 4) -> TextToImageConfig:
    """The same of a text-to-image training."""
    sizes: dict[str, Any] = {"depth": 2, "num_heads": 2, "head_dim": 16}
    model = config.model
    return replace(
        config,
        **_BRIEF,
        model=model if model.pretrained else replace(model, **sizes),
        sampling=replace(config.sampling, num_steps=num_steps),
        prompts=config.prompts[:4],
    )


def shrink_vit(config: ClassifyConfig, **changes: Any) -> ClassifyConfig:
    """The same of a classification; `changes` are of the model."""
    sizes = {"depth": 2, "width": 32, "num_heads": 2} | changes
    return replace(config, **_BRIEF, model=replace(config.model, **sizes))

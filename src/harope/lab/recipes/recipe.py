"""What a recipe is, and the helpers that shrink its configuration for a smoke run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from harope.lab.recipes.tiny_sd3 import save_tiny_clip
from harope.lab.recipes.tiny_text import CLIP_CHANNELS
from harope.lab.text import PretrainedTextConfig
from harope.lab.training.config import OptimizerConfig, RunConfig, TrainConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig

C = TypeVar("C", bound=RunConfig)

PAPER_FINE_TUNING: dict[str, Any] = {
    "optimizer": OptimizerConfig(lr=2e-5, weight_decay=0.01),
    "steps": 4000,
    "batch_size": 64,
    "precision": "bf16",
    "gradient_checkpointing": True,
    "num_workers": 8,
    "log_every": 10,
    "checkpoint_every": 500,
    "sample_every": 500,
}
"""Fields of fine-tuning recipes; optimizer, steps and batch size are those of arXiv 2510.10489,
section 4."""

_SHORT: dict[str, Any] = {
    "steps": 4,
    "batch_size": 4,
    "num_workers": 0,
    "log_every": 2,
    "checkpoint_every": 2,
    "sample_every": 4,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named training configuration, as listed by `harope recipes`."""

    name: str
    """Name on the command line."""
    summary: str
    """One line: model, data, process."""
    config: Callable[[], RunConfig]
    """Returns the full configuration."""
    smoke: Callable[[Path], RunConfig]
    """Returns a tiny configuration that runs the same code in seconds, with synthetic data, if
    needed, in the given folder."""
    prepare: Callable[[RunConfig], None] | None = None
    """Creates files that the full configuration needs, if they are missing."""


def shorten(config: C, **changes: Any) -> C:
    """Reduce a training to four steps with batches of four, and replace other fields."""
    return replace(config, **_SHORT, **changes)


def shrink_dit(config: TrainConfig, num_steps: int = 4) -> TrainConfig:
    """Reduce a class-conditional training to a tiny network and four steps.

    Args:
        config: The full configuration.
        num_steps: Number of sampler steps.
    """
    return shorten(
        config,
        model=replace(config.model, depth=2, width=32, num_heads=2),
        sampling=replace(config.sampling, num_steps=num_steps),
        num_samples=4,
    )


def shrink_mmdit(config: TextToImageConfig, num_steps: int = 4) -> TextToImageConfig:
    """Reduce a text-to-image training to a tiny network (unless pretrained) and four steps.

    Args:
        config: The full configuration.
        num_steps: Number of sampler steps.
    """
    sizes: dict[str, Any] = {"depth": 2, "num_heads": 2, "head_dim": 16}
    model = config.model
    return shorten(
        config,
        model=model if model.pretrained else replace(model, **sizes),
        sampling=replace(config.sampling, num_steps=num_steps),
        prompts=config.prompts[:4],
    )


def shrink_vit(config: ClassifyConfig, **changes: Any) -> ClassifyConfig:
    """Reduce a classification training to a tiny network and four steps.

    Args:
        config: The full configuration.
        changes: Further fields of the model to replace.
    """
    sizes = {"depth": 2, "width": 32, "num_heads": 2} | changes
    return shorten(config, model=replace(config.model, **sizes))


def with_tiny_clip(config: TextToImageConfig, folder: Path) -> TextToImageConfig:
    """Replace the pretrained text encoder of a training by a tiny random one.

    Args:
        config: A configuration whose text encoder is a `PretrainedTextConfig`.
        folder: Folder that the encoder and the cached text embeddings are written into.
    """
    assert isinstance(config.text, PretrainedTextConfig)
    encoder = save_tiny_clip(folder / "clip")
    return replace(
        config,
        model=replace(config.model, text_channels=CLIP_CHANNELS, pooled_channels=CLIP_CHANNELS),
        # Its tokens are letters.
        text=replace(config.text, path=str(encoder), length=77),
        states=replace(config.states, folder=str(folder / "text")),
    )

"""A text-to-image training of scenes, small enough for a test."""

from dataclasses import replace
from typing import Any

from harope.lab.recipes import get_recipe
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.models.mmdit import MMDiTConfig

SIZES: dict[str, Any] = {
    "depth": 2,
    "num_heads": 2,
    "head_dim": 8,
    "patch_size": 2,
    "in_channels": 3,
    "text_channels": 8,
    "pooled_channels": 8,
}


def mmdit_config(**changes: Any) -> MMDiTConfig:
    return MMDiTConfig(**{**SIZES, "input_size": (8, 8)} | changes)


def scenes_config(**changes: Any) -> TextToImageConfig:
    """8-pixel scenes whose captions have 8 channels."""
    config = get_recipe("scenes-mmdit").config()
    assert isinstance(config, TextToImageConfig)
    return replace(
        config,
        model=MMDiTConfig(**SIZES),
        data=replace(config.data, image_size=8),
        text=replace(config.text, channels=8),
        sampling=replace(config.sampling, num_steps=2),
        prompts=config.prompts[:3],
        **{"steps": 2, "batch_size": 6, "seed": 3} | changes,
    )

"""What draws pictures of prompts, and how it is loaded."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope.generation.pipeline import PipelineGenerator, PipelineOptions, is_pipeline


@runtime_checkable
class TextGenerator(Protocol):
    """A text-to-image model with its sampler."""

    def draw(self, prompts: list[str], seeds: list[int]) -> UInt8[Tensor, "batch height width 3"]:
        """One picture per prompt, which depends on the prompt and its seed alone."""
        ...

    def describe(self) -> dict[str, Any]:
        """Model and sampler in JSON values; equal for what draws the same pictures."""
        ...


def load_text_generator(
    path: Path, options: PipelineOptions | None = None, device: torch.device | str = "cpu"
) -> TextGenerator:
    """The generator of a folder; of diffusers' pipelines for now.

    Raises ValueError when the folder is none, or no text-to-image pipeline.
    """
    if not is_pipeline(path):
        raise ValueError(
            f"{path} does not draw from prompts: it has no model_index.json, as a saved diffusers "
            f"pipeline has"
        )
    return PipelineGenerator.load(path, options or PipelineOptions(), device)

"""What draws pictures of prompts, and how it is loaded."""

from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope.lab.sampling.pipelines import PipelineImageGenerator, PipelineOptions, is_pipeline
from harope.lab.sampling.text_to_image_runs import RunImageGenerator, RunOptions

Options = TypeVar("Options", PipelineOptions, RunOptions)


@runtime_checkable
class TextToImageGenerator(Protocol):
    """A text-to-image model with its sampler."""

    def generate(
        self, prompts: list[str], seeds: list[int]
    ) -> UInt8[Tensor, "batch height width 3"]:
        """One picture per prompt, which depends on the prompt and its seed alone."""
        ...

    def describe(self) -> dict[str, Any]:
        """Model and sampler in JSON values; equal for what draws the same pictures."""
        ...


def load_text_to_image_generator(
    path: Path,
    options: PipelineOptions | RunOptions | None = None,
    device: torch.device | str = "cpu",
) -> TextToImageGenerator:
    """The generator of a diffusers pipeline's folder, or of a run of text-to-image training.

    Raises ValueError when the folder is neither, and for options of the other.
    """
    if is_pipeline(path):
        return PipelineImageGenerator.load(path, _of_kind(PipelineOptions, options, path), device)
    return RunImageGenerator.load(path, _of_kind(RunOptions, options, path), device)


def _of_kind(kind: type[Options], options: object, path: Path) -> Options:
    """The options, or defaults where there are none."""
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise ValueError(f"{path} takes {kind.__name__}, got {type(options).__name__}")
    return options

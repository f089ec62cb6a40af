"""Text-to-image generators: their interface, and loading them from a folder."""

from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope.lab.sampling.pipelines import PipelineImageGenerator, PipelineOptions, is_pipeline
from harope.lab.sampling.runs import RunOptions
from harope.lab.sampling.text_to_image_runs import RunImageGenerator

Options = TypeVar("Options", PipelineOptions, RunOptions)


@runtime_checkable
class TextToImageGenerator(Protocol):
    """A text-to-image model with its sampler: makes images from prompts and seeds."""

    def generate(
        self, prompts: list[str], seeds: list[int]
    ) -> UInt8[Tensor, "batch height width 3"]:
        """Generate one image per prompt, which depends only on the prompt and its seed.

        Args:
            prompts: The prompts.
            seeds: One seed per prompt.

        Returns:
            RGB images in the order of the prompts.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Describe model and sampler.

        Returns:
            JSON values that are equal only if the outputs are equal.
        """
        ...


def load_text_to_image_generator(
    path: Path,
    options: PipelineOptions | RunOptions | None = None,
    device: torch.device | str = "cpu",
) -> TextToImageGenerator:
    """Load a text-to-image generator from a diffusers pipeline or a training run.

    Args:
        path: Folder of a saved pipeline, or of a text-to-image run or one of its checkpoints.
        options: Changes to the default settings; of the type that fits the folder.
        device: Device of the model.

    Returns:
        The generator, whose model is on the device.

    Raises:
        ValueError: If the folder is neither a pipeline nor a text-to-image run, or the options are
            for the other kind.
    """
    if is_pipeline(path):
        return PipelineImageGenerator.load(path, _of_kind(PipelineOptions, options, path), device)
    return RunImageGenerator.load(path, _of_kind(RunOptions, options, path), device)


def _of_kind(kind: type[Options], options: object, path: Path) -> Options:
    """Return the options, or defaults if there are none, after checking their type."""
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise ValueError(f"{path} requires {kind.__name__}, got {type(options).__name__}")
    return options

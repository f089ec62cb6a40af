"""Pictures of prompts by a diffusers pipeline: FLUX, SD3 or any other text-to-image one."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from harope.integrations import check_lora, load_encoding
from harope.integrations.lora import LORA_FILE
from harope.lab.data.image_io import to_uint8


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """What to change in a pipeline's defaults."""

    num_steps: int | None = None
    """Steps of its scheduler."""
    guidance: float | None = None
    """Its `guidance_scale`."""
    height: int | None = None
    """Pixels."""
    width: int | None = None
    """Pixels."""
    text_length: int | None = None
    """Tokens of the prompt: its `max_sequence_length`."""
    encoding: Path | None = None
    """A trained encoding to install in its transformer."""
    lora: Path | None = None
    """Folder or file of LoRA weights."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "height", "width", "text_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} must be at least 1")

    def arguments(self) -> dict[str, Any]:
        """Arguments of the pipeline's call."""
        given = {
            "num_inference_steps": self.num_steps,
            "guidance_scale": self.guidance,
            "height": self.height,
            "width": self.width,
            "max_sequence_length": self.text_length,
        }
        return {name: value for name, value in given.items() if value is not None}


def is_pipeline(path: Path) -> bool:
    """Whether a folder is a saved diffusers pipeline."""
    return (path / "model_index.json").is_file()


class PipelineImageGenerator:
    """Draws on the pipeline's device, from noise of the CPU: the same noise on any device."""

    def __init__(self, pipeline: Any, options: PipelineOptions, source: Path) -> None:
        """Raises ValueError when the pipeline's call does not take what is needed or given."""
        self._pipeline, self._options, self._source = pipeline, options, source
        self._parameters = inspect.signature(type(pipeline).__call__).parameters
        name = type(pipeline).__name__
        if not {"prompt", "generator"} <= set(self._parameters):
            raise ValueError(f"{source} is a {name}, which does not draw from prompts")
        for argument in options.arguments():
            if argument not in self._parameters:
                raise ValueError(f"{source} is a {name}, which takes no {argument}: leave it out")
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def load(
        cls, path: Path, options: PipelineOptions, device: torch.device | str
    ) -> "PipelineImageGenerator":
        """From a folder: float32 on the CPU, else bfloat16."""
        from diffusers import DiffusionPipeline

        dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
        pipeline = DiffusionPipeline.from_pretrained(str(path), dtype=dtype, local_files_only=True)
        if options.encoding is not None:
            _install(pipeline, options.encoding, path)
        if options.lora is not None:
            _check_lora(options.lora)
            pipeline.load_lora_weights(str(options.lora), local_files_only=True)
        if pipeline.dtype != dtype:
            # Older versions of diffusers pass over the argument.
            pipeline.to(dtype)
        return cls(pipeline.to(device), options, path)

    def generate(
        self, prompts: list[str], seeds: list[int]
    ) -> UInt8[Tensor, "batch height width 3"]:
        """One picture per prompt and seed."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        images = self._pipeline(
            prompt=prompts, generator=generators, output_type="pt", **self._options.arguments()
        ).images
        return to_uint8(images.float() * 2 - 1)

    def describe(self) -> dict[str, Any]:
        """Pipeline, dtype, sampler and files."""
        options, parameters = self._options, self._parameters
        defaults = {
            name: parameters[name].default
            for name in ("num_inference_steps", "guidance_scale")
            if name in parameters
        }
        return {
            "model": str(self._source.resolve()),
            "pipeline": type(self._pipeline).__name__,
            "scheduler": type(self._pipeline.scheduler).__name__,
            "dtype": str(self._pipeline.dtype).removeprefix("torch."),
            "encoding": None if options.encoding is None else str(options.encoding.resolve()),
            "lora": None if options.lora is None else str(options.lora.resolve()),
            **defaults,
            **options.arguments(),
        }


def _install(pipeline: Any, encoding: Path, path: Path) -> None:
    transformer = getattr(pipeline, "transformer", None)
    if transformer is None:
        raise ValueError(
            f"{path} is a {type(pipeline).__name__}, which has no transformer to put the encoding "
            f"{encoding} in"
        )
    load_encoding(transformer, encoding)


def _check_lora(lora: Path) -> None:
    """Raise ValueError where the weights of an encoding would be dropped."""
    file = lora / LORA_FILE if lora.is_dir() else lora
    if file.is_file():
        check_lora(file)

"""Generating images with a diffusers text-to-image pipeline, such as FLUX or SD3."""

import hashlib
import inspect
import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from harope.integrations import check_lora, load_encoding
from harope.integrations.lora import LORA_FILE
from harope.lab.sampling.runs import check_sampling_options
from harope.lab.sampling.stored_samples import to_images
from harope.rope import cached

_COMPARED_VALUES = 1024
"""Values of each tensor by which the weights of pipelines are told apart."""


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """Changes to a pipeline's default settings; None keeps the default.

    Raises:
        ValueError: If a number is out of range.
    """

    num_steps: int | None = None
    """Number of scheduler steps."""
    guidance: float | None = None
    """Guidance scale."""
    height: int | None = None
    """Height in pixels."""
    width: int | None = None
    """Width in pixels."""
    text_length: int | None = None
    """Maximum number of prompt tokens, the pipeline's `max_sequence_length`."""
    encoding: Path | None = None
    """Trained encoding to install in the transformer."""
    lora: Path | None = None
    """Folder or file of LoRA weights to load."""

    def __post_init__(self) -> None:
        check_sampling_options(self, "num_steps", "height", "width", "text_length")

    def arguments(self) -> dict[str, Any]:
        """Convert the settings to arguments of the pipeline.

        Returns:
            Keyword arguments of the pipeline's call, without those that keep their default.
        """
        given = {
            "num_inference_steps": self.num_steps,
            "guidance_scale": self.guidance,
            "height": self.height,
            "width": self.width,
            "max_sequence_length": self.text_length,
        }
        return {name: value for name, value in given.items() if value is not None}


def is_pipeline(path: Path) -> bool:
    """Tell a saved diffusers pipeline from other folders.

    Args:
        path: Folder to look at.

    Returns:
        Whether the folder has a `model_index.json`.
    """
    return (path / "model_index.json").is_file()


class PipelineImageGenerator:
    """Text-to-image generator that calls a diffusers pipeline.

    The initial noise is generated on the CPU and does not depend on the device.

    Args:
        pipeline: A diffusers pipeline that accepts `prompt` and `generator`.
        options: Changes to its default settings.
        source: Folder of the pipeline, for messages and the description.

    Raises:
        ValueError: If the pipeline's call does not accept the prompt, the generator or an option.
    """

    def __init__(self, pipeline: Any, options: PipelineOptions, source: Path) -> None:
        self._pipeline, self._options, self._source = pipeline, options, source
        self._parameters = inspect.signature(type(pipeline).__call__).parameters
        name = type(pipeline).__name__
        if not {"prompt", "generator"} <= set(self._parameters):
            raise ValueError(f"{source} is a {name}, which does not generate images from prompts")
        for argument in options.arguments():
            if argument not in self._parameters:
                raise ValueError(
                    f"{source} is a {name}, which does not accept {argument}: remove the option"
                )
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def load(
        cls, path: Path, options: PipelineOptions, device: torch.device | str
    ) -> "PipelineImageGenerator":
        """Load a pipeline from a folder, in float32 on the CPU and in bfloat16 elsewhere.

        Args:
            path: Folder of the pipeline.
            options: Changes to its default settings.
            device: Device of the pipeline.

        Returns:
            The generator, with encoding and LoRA loaded.

        Raises:
            ValueError: If the pipeline does not accept an option or has no transformer for the
                encoding.
        """
        from diffusers import DiffusionPipeline

        dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
        pipeline = DiffusionPipeline.from_pretrained(str(path), dtype=dtype, local_files_only=True)
        if options.encoding is not None:
            _install(pipeline, options.encoding, path)
        if options.lora is not None:
            _check_lora(options.lora)
            pipeline.load_lora_weights(str(options.lora), local_files_only=True)
        if pipeline.dtype != dtype:
            # Older versions of diffusers ignore the argument.
            pipeline.to(dtype)
        return cls(pipeline.to(device), options, path)

    def generate(
        self, prompts: list[str], seeds: list[int]
    ) -> UInt8[Tensor, "batch height width 3"]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        transformer = getattr(self._pipeline, "transformer", None)
        with nullcontext() if transformer is None else cached(transformer):
            images = self._pipeline(
                prompt=prompts, generator=generators, output_type="pt", **self._options.arguments()
            ).images
        return to_images(images.float() * 2 - 1)

    def describe(self) -> dict[str, Any]:
        options, parameters = self._options, self._parameters
        defaults = {
            name: parameters[name].default
            for name in ("num_inference_steps", "guidance_scale")
            if name in parameters
        }
        return {
            "model": str(self._source.resolve()),
            "pipeline": type(self._pipeline).__name__,
            "weights": _weights_digest(self._pipeline),
            "scheduler": type(self._pipeline.scheduler).__name__,
            "scheduler_config": _scheduler_config(self._pipeline),
            "dtype": str(self._pipeline.dtype).removeprefix("torch."),
            "encoding": None if options.encoding is None else str(options.encoding.resolve()),
            "lora": None if options.lora is None else str(options.lora.resolve()),
            **defaults,
            **options.arguments(),
        }


def _weights_digest(pipeline: Any) -> str:
    """Return a digest of evenly spaced weights of all models, with encoding and LoRA.

    Pipelines have up to tens of gigabytes of weights. Training changes nearly all of them, so that
    a few of each tensor suffice to tell two models apart.
    """
    digest = hashlib.sha256()
    for part, model in sorted(pipeline.components.items()):
        if not isinstance(model, nn.Module):
            continue
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            flat = tensor.detach().flatten()
            some = flat[:: max(1, len(flat) // _COMPARED_VALUES)]
            digest.update(some.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _scheduler_config(pipeline: Any) -> dict[str, Any]:
    config = {name: value for name, value in pipeline.scheduler.config.items() if name[0] != "_"}
    return json.loads(json.dumps(config, default=str))


def _install(pipeline: Any, encoding: Path, path: Path) -> None:
    transformer = getattr(pipeline, "transformer", None)
    if transformer is None:
        raise ValueError(
            f"{path} is a {type(pipeline).__name__}, which has no transformer to install the "
            f"encoding {encoding} in: use a transformer pipeline such as FLUX"
        )
    load_encoding(transformer, encoding)


def _check_lora(lora: Path) -> None:
    """Raise ValueError if the LoRA file contains encoding weights that would be lost."""
    file = lora / LORA_FILE if lora.is_dir() else lora
    if file.is_file():
        check_lora(file)

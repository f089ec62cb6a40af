"""All tasks: from a configuration's `task` to its class, and from the configuration to the task."""

from collections.abc import Callable
from typing import Any

import torch

from harope.training.classification import Classification, ClassifyConfig
from harope.training.config import RunConfig, TrainConfig
from harope.training.denoising import Denoising
from harope.training.flux_config import FluxLoraConfig
from harope.training.flux_lora import FluxLora
from harope.training.task import Task
from harope.training.text_to_image import TextToImage, TextToImageConfig

CONFIGS: dict[str, type[RunConfig]] = {
    TrainConfig.task: TrainConfig,
    ClassifyConfig.task: ClassifyConfig,
    TextToImageConfig.task: TextToImageConfig,
    FluxLoraConfig.task: FluxLoraConfig,
}
"""Configurations by task; JSON without `task` is a TrainConfig."""

_TASKS: dict[type[RunConfig], Callable[[Any, torch.device], Task]] = {
    TrainConfig: Denoising,
    ClassifyConfig: Classification,
    TextToImageConfig: TextToImage,
    FluxLoraConfig: FluxLora,
}


def create_task(config: RunConfig, device: torch.device) -> Task:
    """The task of a configuration, its model on the device.

    Raises ValueError when data and model do not fit, or the data cannot be read.
    """
    return _TASKS[type(config)](config, device)

"""All tasks: from a configuration's `task` to its class, and from the configuration to the task."""

from collections.abc import Callable
from typing import Any

import torch

from harope.lab.training.config import RunConfig, TrainConfig
from harope.lab.training.task import Task
from harope.lab.training.tasks.class_conditional import ClassConditional
from harope.lab.training.tasks.classification import Classification, ClassifyConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.flux_lora.task import FluxLora
from harope.lab.training.tasks.text_to_image import TextToImage, TextToImageConfig

CONFIGS: dict[str, type[RunConfig]] = {
    TrainConfig.task: TrainConfig,
    ClassifyConfig.task: ClassifyConfig,
    TextToImageConfig.task: TextToImageConfig,
    FluxLoraConfig.task: FluxLoraConfig,
}
"""Configurations by task; JSON without `task` is a TrainConfig."""

_TASKS: dict[type[RunConfig], Callable[[Any, torch.device], Task]] = {
    TrainConfig: ClassConditional,
    ClassifyConfig: Classification,
    TextToImageConfig: TextToImage,
    FluxLoraConfig: FluxLora,
}


def create_task(config: RunConfig, device: torch.device) -> Task:
    """The task of a configuration, its model on the device.

    Raises ValueError when data and model do not fit, or the data cannot be read.
    """
    return _TASKS[type(config)](config, device)

"""All training tasks."""

from typing import Any

import torch

from harope.lab.training.task import RunConfig, Task
from harope.lab.training.tasks.class_conditional import ClassConditional
from harope.lab.training.tasks.classification import Classification
from harope.lab.training.tasks.flux_lora.task import FluxLora
from harope.lab.training.tasks.text_to_image import TextToImage

TASKS: tuple[type[Any], ...] = (ClassConditional, Classification, TextToImage, FluxLora)
"""A new task is listed here; it names its configuration class as `config_type`."""


def create_task(config: RunConfig, device: torch.device) -> Task:
    """Create the task of a configuration, with its model on `device`.

    Raises:
        ValueError: If data and model do not fit each other, or the data cannot be read.
    """
    by_config = {task.config_type: task for task in TASKS}
    return by_config[type(config)](config, device)

"""All training tasks."""

from typing import Any

import torch

from harope.lab.training.task import RunConfig, Task
from harope.lab.training.tasks.class_conditional import ClassConditional
from harope.lab.training.tasks.classification import Classification
from harope.lab.training.tasks.flux_lora.task import FluxLora
from harope.lab.training.tasks.text_to_image import TextToImage

TASKS: tuple[type[Any], ...] = (ClassConditional, Classification, TextToImage, FluxLora)
"""All tasks. The first one has no name in files, see `TrainConfig.task`."""


def create_task(config: RunConfig, device: torch.device) -> Task:
    """Create the task of a configuration.

    Args:
        config: Configuration of the training, whose class determines the task.
        device: Device of the model.

    Returns:
        The task, with its data open and its model initialised.

    Raises:
        ValueError: If data and model do not fit each other, or the data cannot be read.
    """
    by_config = {task.config_type: task for task in TASKS}
    return by_config[type(config)](config, device)

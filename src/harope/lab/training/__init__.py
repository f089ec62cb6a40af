"""Training with accelerate, on one process or many; interrupted runs resume exactly."""

from harope.lab.training.loop import train
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.task import RunConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig

__all__ = [
    "ClassifyConfig",
    "FluxLoraConfig",
    "OptimizerConfig",
    "RunConfig",
    "TrainConfig",
    "train",
]

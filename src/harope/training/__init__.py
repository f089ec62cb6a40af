"""Training on accelerate: one process or many, resumable to the bit."""

from harope.training.classification import ClassifyConfig
from harope.training.config import OptimizerConfig, RunConfig, TrainConfig
from harope.training.flux_config import FluxLoraConfig
from harope.training.loop import train

__all__ = [
    "ClassifyConfig",
    "FluxLoraConfig",
    "OptimizerConfig",
    "RunConfig",
    "TrainConfig",
    "train",
]

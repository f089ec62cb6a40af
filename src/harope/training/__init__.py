"""Training on accelerate: one process or many, resumable to the bit."""

from harope.training.config import OptimizerConfig, TrainConfig
from harope.training.loop import train

__all__ = ["OptimizerConfig", "TrainConfig", "train"]

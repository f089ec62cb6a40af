"""What a training trains: the loop asks a task for all that depends on it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope.lab.data.dataset import Dataset, LabelledDataset
from harope.lab.training.config import RunConfig
from harope.rope import PositionalEncoding, parameter_groups

TensorBatch: TypeAlias = tuple[Tensor, ...]
"""What a source draws: tensors whose first axis is the batch."""


class Task(ABC):
    """A model, the data it learns from, and the loss; made once per process on its device."""

    def __init__(
        self, config: RunConfig, source: Dataset[Any], model: nn.Module, *, title: str
    ) -> None:
        self.config = config
        self.source = source
        """What it learns from, in tensors; a subclass checks that the model takes it."""
        self.model = model
        """What the loop wraps, optimises and averages: the parameters that require a gradient."""
        self.title = title
        """What the progress bar calls it."""

    @abstractmethod
    def losses(
        self, network: Callable[..., Tensor], batch: TensorBatch, step: int, first: int
    ) -> dict[str, Tensor]:
        """One loss per sample, key "loss" first, of the part of the step's batch from `first` on.

        `network` is the model, wrapped for many processes or compiled. Random numbers are drawn for
        the whole batch of the step and cut to the part at hand, so that training is the same
        whatever the number of processes and the parts of a batch.
        """

    @abstractmethod
    def model_config(self) -> dict[str, Any]:
        """What a checkpoint's config.json says of the model, as plain values."""

    @abstractmethod
    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Show how far the model is, which holds its averaged weights in eval mode meanwhile.

        Pictures go into the run's folder; what is returned joins the step's line of metrics.jsonl.
        Called in the main process alone, so it takes no part in collective operations.
        """

    def export(self, run: Path) -> None:  # noqa: B027 (most tasks have nothing to add)
        """Write into the run what other programs read of the model, after every checkpoint.

        Called as `report` is, with the averaged weights in place. Nothing, where the checkpoints
        are all there is to read.
        """

    def regularization(self) -> Float[Tensor, ""]:
        """Sum of the penalties of the model's encodings, 0 where they have none."""
        encodings = [part for part in self.model.modules() if isinstance(part, PositionalEncoding)]
        penalties = [encoding.regularization() for encoding in encodings]
        kept = [penalty for penalty in penalties if penalty is not None]
        return torch.stack(kept).sum() if kept else torch.zeros(())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer."""
        return parameter_groups(self.model, self.config.optimizer.weight_decay)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint's model.safetensors keeps; fewer where most weights are frozen."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The reverse of state_dict."""
        self.model.load_state_dict(state)


def check_fit(
    source: LabelledDataset, *, in_channels: int, patch_size: int, num_classes: int | None
) -> None:
    """Raise ValueError unless a model of these sizes takes what the source gives.

    None for `num_classes`: the model reads no classes.
    """
    check_shape(source.shape, in_channels=in_channels, patch_size=patch_size)
    if num_classes not in (None, source.num_classes):
        raise ValueError(
            f"model.num_classes is {num_classes} but the data has {source.num_classes} classes: "
            f"set --model.num_classes {source.num_classes}"
        )


def check_shape(shape: tuple[int, int, int], *, in_channels: int, patch_size: int) -> None:
    """Raise ValueError unless images of this shape are whole patches of that many channels."""
    channels, height, width = shape
    if channels != in_channels or height % patch_size or width % patch_size:
        raise ValueError(
            f"data of shape {shape} does not fit model.in_channels {in_channels} and "
            f"model.patch_size {patch_size}: change the model's"
        )


def generator_for(seed: int, step: int, device: torch.device) -> torch.Generator:
    """A generator of its own for every step, so that a resumed run draws what it would have."""
    # An odd multiplier mixes seed and step; torch's own seeding scrambles the rest.
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63
    return torch.Generator(device).manual_seed(mixed)

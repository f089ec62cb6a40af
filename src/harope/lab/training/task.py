"""The interface of a training task, and checks that data and model fit together."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope.lab.data.dataset import Dataset, LabelledDataset
from harope.lab.training.config import RunConfig
from harope.rope import PositionalEncoding, parameter_groups

TensorBatch: TypeAlias = tuple[Tensor, ...]
"""A batch of training data: tensors whose first axis is the batch."""


class Task(ABC):
    """Everything specific to what is trained: a model, its training data and its loss.

    The training loop creates one task per process and calls it for all that depends on the model.

    Args:
        config: Configuration of the training.
        source: Training data.
        model: Model on its device. The loop wraps it, optimises its parameters that require a
            gradient, and keeps their moving average.
        title: Label of the progress bar.
    """

    config_type: ClassVar[type[RunConfig]]
    """Class of its configuration, whose `task` names it in files."""

    def __init__(
        self, config: RunConfig, source: Dataset[Any], model: nn.Module, *, title: str
    ) -> None:
        self.config = config
        self.source = source
        self.model = model
        self.title = title

    @abstractmethod
    def losses(
        self, network: Callable[..., Tensor], batch: TensorBatch, step: int, batch_offset: int
    ) -> dict[str, Tensor]:
        """Compute the losses of one micro-batch.

        Random numbers are sampled for the complete batch of the step and cut to the micro-batch, so
        that a training does not depend on the number of processes and micro-batches.

        Args:
            network: The model, possibly compiled or wrapped for distributed training.
            batch: The micro-batch, on the model's device.
            step: Number of the step.
            batch_offset: Index of the micro-batch's first sample in the batch of the step.

        Returns:
            Losses (batch,), first "loss", which is minimised, then others to log.
        """

    @abstractmethod
    def model_config(self) -> dict[str, Any]:
        """Describe the model for the checkpoint's config.json, as values for JSON."""

    @abstractmethod
    def report(self, run: Path, step: int) -> dict[str, Any]:
        """Show the progress of the model, for instance by samples or by its test accuracy.

        Called in the main process only, so it must not take part in collective operations. During
        the call the model is in eval mode and has its EMA weights.

        Args:
            run: Run folder, into which images are written.
            step: Number of steps done.

        Returns:
            Values for JSON that are added to the step's line of metrics.jsonl.
        """

    def export(self, run: Path) -> None:  # noqa: B027 (most tasks have nothing to export)
        """Write files for other programs into the run folder, after every checkpoint.

        Called like `report`, with the EMA weights in place. By default nothing is written.
        """

    def regularization(self) -> Float[Tensor, ""]:
        """Sum the penalties of the model's encodings; 0 if they have none."""
        encodings = [part for part in self.model.modules() if isinstance(part, PositionalEncoding)]
        penalties = [encoding.regularization() for encoding in encodings]
        terms = [penalty for penalty in penalties if penalty is not None]
        return torch.stack(terms).sum() if terms else torch.zeros(())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups: with weight decay, then without."""
        return parameter_groups(self.model, self.config.optimizer.weight_decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint's model.safetensors.

        A task whose weights are mostly frozen returns only those that are trained.
        """
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the tensors that `state_dict` returned."""
        self.model.load_state_dict(state)


def check_fit(
    source: LabelledDataset, *, in_channels: int, patch_size: int, num_classes: int | None
) -> None:
    """Check that labelled data fits a model.

    Args:
        source: Images or latents with classes.
        in_channels: Channels of the model's input.
        patch_size: Side of the model's patches.
        num_classes: Classes of the model; None if it does not use them.

    Raises:
        ValueError: If the shape or the number of classes does not fit.
    """
    check_shape(source.shape, in_channels=in_channels, patch_size=patch_size)
    if num_classes not in (None, source.num_classes):
        raise ValueError(
            f"model.num_classes is {num_classes}, but the data has {source.num_classes} classes: "
            f"set --model.num_classes {source.num_classes}"
        )


def check_shape(shape: tuple[int, int, int], *, in_channels: int, patch_size: int) -> None:
    """Raise ValueError unless images (channels, height, width) can be split into patches."""
    channels, height, width = shape
    if channels != in_channels or height % patch_size or width % patch_size:
        raise ValueError(
            f"data of the shape {shape} does not fit model.in_channels {in_channels} and "
            f"model.patch_size {patch_size}: set the model's in_channels to {channels}, and its "
            f"patch_size to a divisor of {height} and {width}"
        )

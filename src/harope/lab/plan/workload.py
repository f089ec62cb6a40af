"""A training as numbers: parameters, operations and bytes per step, counted without its data."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from harope.lab.plan.models import FrozenPart, planned_model
from harope.lab.plan.trace import ForwardTrace, model_blocks, trace_forward
from harope.lab.recipes import Recipe
from harope.lab.training.optim import hidden_matrices
from harope.lab.training.task import RunConfig

TRACED_BATCHES = (4, 8)
"""Batch sizes that are traced; between and beyond them, operations and bytes are linear."""
AUTOCAST = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Dtype of autocast by the configuration's precision."""


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A quantity that grows linearly with the number of images."""

    fixed: float
    """Value for no images."""
    per_image: float
    """What each image adds."""

    def at(self, images: int) -> float:
        """Return the value for a number of images.

        Args:
            images: Number of images.
        """
        return self.fixed + images * self.per_image

    @classmethod
    def through(cls, low: float, high: float) -> "Linear":
        """Fit the values of the two `TRACED_BATCHES`.

        Args:
            low: Value for the smaller batch.
            high: Value for the larger batch.
        """
        first, last = TRACED_BATCHES
        slope = (high - low) / (last - first)
        return cls(fixed=low - first * slope, per_image=slope)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of a model: how many, and how large."""

    total: int
    """Number of all parameters."""
    trained: int
    """Number of those that require a gradient."""
    bytes: int
    """Memory of all of them."""
    largest_block: int
    """Number of the parameters of the largest transformer block."""
    optimizer_bytes: int
    """Memory of the optimizer's state: two float32 moments for AdamW, one for Muon's matrices."""


class Workload:
    """What a training computes and keeps in memory, whatever card it runs on.

    Args:
        config: Configuration of the training.
        recipe: Its recipe.

    Raises:
        ValueError: The size of the data, or the architecture of a pretrained model, is not known.
    """

    def __init__(self, config: RunConfig, recipe: Recipe) -> None:
        self.config = config
        self._model = planned_model(config, recipe)
        self._network = self._model.create()
        self.parameters = _count(self._network, config)

    @property
    def frozen(self) -> tuple[FrozenPart, ...]:
        """Networks that run beside the model and are not trained."""
        return self._model.frozen

    @property
    def data_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image or latent of the training data."""
        return self._model.data_shape

    @cached_property
    def forward_flops(self) -> Linear:
        """Operations of the model's forward pass."""
        low, high = self._traces
        return Linear.through(float(low.flops), float(high.flops))

    @property
    def forward_operators(self) -> int:
        """Number of operators of the model's forward pass."""
        return self._traces[-1].operators

    def step_flops(self, *, checkpointing: bool) -> Linear:
        """Return the operations of forward and backward pass.

        The backward pass computes the gradients of activations with as many operations as the
        forward pass, and those of weights with as many for each weight that is trained; gradient
        checkpointing repeats the forward pass. Frozen networks run forward.

        Args:
            checkpointing: Whether gradient checkpointing is on.

        Returns:
            Operations by the number of images.
        """
        forward, parameters = self.forward_flops, self.parameters
        factor = 2 + parameters.trained / parameters.total + checkpointing
        frozen = sum(part.flops for part in self.frozen)
        return Linear(fixed=factor * forward.fixed, per_image=factor * forward.per_image + frozen)

    def activations(self, *, checkpointing: bool) -> Linear:
        """Return the memory that a forward pass keeps for the backward pass, in bytes.

        With gradient checkpointing these are the inputs of the blocks, and what one block keeps
        while it is computed again. The fixed part is mostly the copies of the weights that autocast
        makes, which it keeps until the end of a forward pass with checkpointing as well.

        Args:
            checkpointing: Whether gradient checkpointing is on.

        Returns:
            Bytes by the number of images.
        """
        saved = [trace.saved for trace in self._traces]
        everything = Linear.through(*(float(part.total) for part in saved))
        if not checkpointing:
            return everything
        inputs = Linear.through(*(float(part.checkpointed) for part in saved))
        return Linear(fixed=everything.fixed, per_image=inputs.per_image)

    @cached_property
    def _traces(self) -> tuple[ForwardTrace, ...]:
        dtype = AUTOCAST[self.config.precision]
        return tuple(
            trace_forward(self._network, self._model.forward, batch, dtype=dtype)
            for batch in TRACED_BATCHES
        )


def _count(model: nn.Module, config: RunConfig) -> Parameters:
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    matrices = hidden_matrices(model) if config.optimizer.name == "muon" else []
    moments = 2 * _numel(trained) - _numel(matrices)
    return Parameters(
        total=_numel(parameters),
        trained=_numel(trained),
        bytes=sum(parameter.numel() * parameter.itemsize for parameter in parameters),
        largest_block=max(_numel(list(block.parameters())) for block in model_blocks(model)),
        optimizer_bytes=4 * moments,
    )


def _numel(parameters: list[Any]) -> int:
    return sum(parameter.numel() for parameter in parameters)

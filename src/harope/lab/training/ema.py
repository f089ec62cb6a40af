"""Exponential moving average (EMA) of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average, in float32, of a model's parameters that require a gradient.

    The decay of update n is `min(decay, (1 + n) / (10 + n))`, so that the average also follows the
    weights in short trainings.

    Args:
        model: Model whose parameters are averaged.
        decay: Largest decay, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._names, self._parameters = list(trained), list(trained.values())
        self.average = [p.detach().float().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [
            p.detach().to(a.dtype) for p, a in zip(self._parameters, self.average, strict=True)
        ]
        torch._foreach_lerp_(self.average, weights, 1 - decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by parameter name."""
        return dict(zip(self._names, self.average, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], updates: int) -> None:
        """Restore averages and the number of updates that led to them."""
        for name, average in zip(self._names, self.average, strict=True):
            average.copy_(state[name])
        self.updates = updates

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Replace the model's weights by their averages inside the `with` block."""
        weights = [p.detach().clone() for p in self._parameters]
        self._fill(self.average)
        try:
            yield
        finally:
            self._fill(weights)

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)

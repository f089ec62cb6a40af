"""Another learning rate for the weights that make queries and keys.

They are rows of a packed projection in most models, so no group of their own for an optimizer.
Scaling the change that a step makes by a factor is the same as scaling its rate by it, in any
optimizer whose step is proportional to the rate, with decoupled weight decay included.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harope.integrations.registry import find_integration


class QueryKeyRate:
    """Hooks on an optimizer's step: what it changes in these rows is multiplied by `factor`.

    Raises ValueError where the model has no such weights, see `query_key_rows`.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, factor: float) -> None:
        self.model, self.factor = model, factor
        self._before = query_key_rows(model)
        optimizer.register_step_pre_hook(self._keep)
        optimizer.register_step_post_hook(self._scale)

    @torch.no_grad()
    def _keep(self, *_: Any) -> None:
        self._before = [rows.clone() for rows in query_key_rows(self.model)]

    @torch.no_grad()
    def _scale(self, *_: Any) -> None:
        rows = query_key_rows(self.model)
        torch._foreach_lerp_(self._before, rows, self.factor)
        torch._foreach_copy_(rows, self._before)


def query_key_rows(model: nn.Module) -> list[Tensor]:
    """Views of the trained weights and biases that make queries and keys.

    Raises ValueError for a model that no host knows, and where the weights are frozen.
    """
    host = find_integration(model)
    projections = [
        part
        for layer in host.layers(model)
        for part in host.projections(layer.attention)
        if part.weight.requires_grad
    ]
    if not projections:
        raise ValueError(
            "query_key_rate is not 1 but no weight of queries and keys is trained without a norm "
            "behind it: leave it at 1"
        )
    rows = [tensor for part in projections for tensor in (part.weight, part.bias)]
    return [tensor.detach() for tensor in rows if tensor is not None]

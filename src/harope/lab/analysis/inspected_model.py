"""What `harope inspect` looks at: a model with its attentions, or an encoding without its model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope.integrations.registry import find_integration
from harope.lab.analysis.receptive_fields import Grid
from harope.lab.training.config import RunConfig
from harope.rope import NoEncoding, PositionalEncoding


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One attention."""

    name: str
    """Its path in the model."""
    encoding: PositionalEncoding
    """Its encoding; one that does nothing where it has none."""
    projections: tuple[Tensor, Tensor] | None
    """Of queries and keys, each (heads, head_dim, width + 1): what white tokens meet, the last
    column being the bias. Those of the image where text has its own. None without a model, and
    where a norm of q and k stands after them."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is looked at."""

    title: str
    """One line: what it is."""
    layers: list[Layer]
    """All attentions."""
    sizes: Grid
    """Tokens along y and x."""
    prefix: int = 0
    """Tokens without a place, which come first."""
    text: int = 0
    """Tokens of text, which come last and have projections of their own."""
    patch_size: int = 1
    """Pixels or latents along the side of a token."""
    model: nn.Module | None = None
    """None for an encoding alone."""
    example: tuple[Tensor, ...] = ()
    """Inputs of the model for one image of this grid, zeros."""
    train: RunConfig | None = None
    """How it was trained, where that is known."""
    fresh: Callable[[], nn.Module] | None = None
    """Makes the model as the training did at its start. May raise OSError."""

    def initial(self) -> "Subject | None":
        """The same before its training: the weights that its seed drew. None where unknown."""
        if self.train is None or self.fresh is None:
            return None
        with torch.random.fork_rng(devices=[]):
            # As the tasks do, which draw nothing before.
            torch.manual_seed(self.train.seed)
            try:
                model = self.fresh()
            except OSError:
                # A pretrained model that is not at hand.
                return None
        return replace(self, model=model.eval(), layers=model_layers(model))


def model_layers(model: nn.Module) -> list[Layer]:
    """The attentions of a model that a host of `harope.integrations` knows."""
    host = find_integration(model)
    found = []
    for layer in host.layers(model):
        encoding = getattr(layer.attention, "harope", None)
        plain = NoEncoding(
            num_heads=layer.num_heads, head_dim=layer.head_dim, num_axes=host.num_axes
        )
        block = model.get_submodule(layer.name.rpartition(".")[0])
        norm, sides = getattr(block, "norm1", None), {}
        for part in host.projections(layer.attention):
            # The image's come before the text's.
            if part.side not in sides:
                sides[part.side] = _with_norm(part.weight, part.bias, norm, layer.num_heads)
        found.append(
            Layer(
                name=layer.name,
                encoding=plain if encoding is None else encoding.itself,
                projections=(sides[0], sides[1]) if sides else None,
            )
        )
    return found


@torch.no_grad()
def _with_norm(
    weight: Tensor, bias: Tensor | None, norm: Any, num_heads: int
) -> Float[Tensor, "heads head_dim columns"]:
    """W diag(gamma) and W beta + b: the norm's own weights taken into the projection."""
    shift = weight.new_zeros(len(weight)) if bias is None else bias
    gamma, beta = getattr(norm, "weight", None), getattr(norm, "bias", None)
    shift = shift if beta is None else shift + weight @ beta
    scaled = weight if gamma is None else weight * gamma
    return torch.cat([scaled, shift[:, None]], dim=1).double().unflatten(0, (num_heads, -1))

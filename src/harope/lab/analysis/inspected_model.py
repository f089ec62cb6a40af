"""Models that `harope inspect` analyses: a model with its attentions, or an encoding alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope._utils.rng import isolated_torch_rng
from harope.integrations.registry import find_integration
from harope.lab.analysis.receptive_fields import Grid
from harope.lab.training.initial_weights import (
    find_origin,
    load_initial_weights,
    read_initial_model,
)
from harope.lab.training.task import RunConfig
from harope.rope import NoEncoding, PositionalEncoding


@dataclass(frozen=True, kw_only=True)
class AttentionLayer:
    """What is inspected of one attention: its encoding and its projections."""

    name: str
    """Path of the attention in the model."""
    encoding: PositionalEncoding
    """Encoding of the attention; `NoEncoding` if it has none."""
    projections: tuple[Tensor, Tensor] | None
    """Query and key projection, each (heads, head_dim, width + 1) with the bias as last column.
    They apply to normalised tokens, modelled as white noise, N(0, I); the norm's own weights are
    merged into them. For joint attention, the image stream's. None without a model or behind
    QK-norm."""


@dataclass(frozen=True, kw_only=True)
class InspectedModel:
    """A model with its attentions, or an encoding without its model."""

    title: str
    """One-line description."""
    layers: list[AttentionLayer]
    """All attentions."""
    sizes: Grid
    """Number of image tokens along y and x."""
    num_prefix_tokens: int = 0
    """Number of tokens without a position, such as class tokens, which come first."""
    num_text_tokens: int = 0
    """Number of text tokens, which come last and have projections of their own."""
    patch_size: int = 1
    """Pixels or latents along the side of a token."""
    model: nn.Module | None = None
    """The model in eval mode; None for an encoding alone."""
    example: tuple[Tensor, ...] = ()
    """Inputs of the model for one image of this grid, all zeros."""
    train: RunConfig | None = None
    """Training configuration; None if unknown."""
    origin: str | None = None
    """What the training started from, see `CheckpointState.origin`; None for new weights."""
    make_initial: Callable[[], nn.Module] | None = None
    """Creates the model as at the start of training. May raise OSError."""

    def initial_model(self) -> "InspectedModel | None":
        """Recreate the model at the start of its training, with the weights of its seed or `init`.

        Returns:
            None if the training is unknown, or the weights that it started from are not available.
        """
        if self.train is None or self.make_initial is None:
            return None
        init = self.train.init
        # A run may also go on from a checkpoint of another one, whose own start is not known.
        if self.origin is not None and (
            init is None or find_origin(init, self.origin) != self.origin
        ):
            return None
        # Tasks seed the generator like this and draw nothing before the weights.
        with isolated_torch_rng(self.train.seed):
            try:
                model = self.make_initial()
            except OSError:
                return None
        if init is not None:
            load_initial_weights(model, self.train, read_initial_model(self.train))
        return replace(self, model=model.eval(), layers=model_layers(model))


def model_layers(model: nn.Module) -> list[AttentionLayer]:
    """List the attentions of a model that `harope.integrations` supports.

    Args:
        model: A supported model, such as `harope.DiT`.

    Returns:
        Attentions in the order of the model, each with its encoding.
    """
    host = find_integration(model)
    layers = []
    for layer in host.layers(model):
        encoding = getattr(layer.attention, "harope", None)
        plain = NoEncoding(
            num_heads=layer.num_heads, head_dim=layer.head_dim, num_axes=host.num_axes
        )
        block = model.get_submodule(layer.name.rpartition(".")[0])
        norm, sides = getattr(block, "norm1", None), {}
        for part in host.projections(layer.attention):
            # The projections of the image come before those of text.
            if part.side not in sides:
                sides[part.side] = _with_norm(part.weight, part.bias, norm, layer.num_heads)
        layers.append(
            AttentionLayer(
                name=layer.name,
                encoding=plain if encoding is None else encoding.unwrapped,
                projections=(sides[0], sides[1]) if sides else None,
            )
        )
    return layers


@torch.no_grad()
def _with_norm(
    weight: Tensor, bias: Tensor | None, norm: Any, num_heads: int
) -> Float[Tensor, "heads head_dim columns"]:
    """Merge the weights of a norm into a projection: W diag(gamma) and W beta + b."""
    shift = weight.new_zeros(len(weight)) if bias is None else bias
    gamma, beta = getattr(norm, "weight", None), getattr(norm, "bias", None)
    shift = shift if beta is None else shift + weight @ beta
    scaled = weight if gamma is None else weight * gamma
    return torch.cat([scaled, shift[:, None]], dim=1).double().unflatten(0, (num_heads, -1))

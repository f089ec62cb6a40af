"""Folding an installed encoding's matrices into its model's projections, for inference."""

import warnings

import torch
from torch import Tensor, nn

from harope.integrations.api import detach_all
from harope.integrations.attention import detach_qkv, own_forward
from harope.integrations.base import Integration, Layer, Projection, get_install_state
from harope.integrations.registry import find_integration
from harope.rope import RotaryEncoding, fold_projection
from harope.rope._fast.folded_linear import is_bare
from harope.rope.basis import Identity


class NotFoldedWarning(UserWarning):
    """Some matrices could not be folded and are still applied to the tokens."""


def fold(model: nn.Module) -> nn.Module:
    """Multiply the bases into the projections of queries and keys, in place.

    The outputs stay the same up to rounding. If the model's own rotation was kept, nothing of the
    encoding is left: modules, hooks and processors are the stock ones. A rotation of the encoding
    stays, without matrices. Behind QK-norm matrices cannot be folded: they stay, with a
    NotFoldedWarning.

    Args:
        model: A model that `harope.install` was called on, or a harope.DiT.

    Returns:
        The same model.

    Raises:
        ValueError: No encoding is installed, or a projection is more than a Linear with plain
            weights (adapters, hooks, parametrizations, quantized, sharded or offloaded weights).
    """
    state = get_install_state(model)
    integration = state.integration if state is not None else _own_integration(model)
    layers = state.layers if state is not None else []
    if integration.computes_positions:
        layers = integration.layers(model)
    pairs = [(layer, integration.projections(layer.attention)) for layer in layers]
    folding = [(layer, parts) for layer, parts in pairs if parts and _has_matrices(layer)]
    for layer, projections in folding:
        _check_foldable(layer, projections)
    for layer, projections in folding:
        _fold(layer, projections)
    if folding and state is not None:
        state.folded = True
    if not integration.computes_positions:
        for layer, projections in pairs:
            if projections:
                detach_qkv(layer.attention)  # The projection is a stock Linear again.
    stays = [layer.name for layer, _ in pairs if _keeps_matrices(layer)]
    if stays:
        warnings.warn(
            f"the matrices of {len(stays)} attentions stay ({stays[0]}, ...): QK-norm stands "
            f"between projection and rotation",
            NotFoldedWarning,
            stacklevel=2,
        )
    if folding:
        integration.finish_fold(model, state)
    if state is not None and layers and all(map(_does_nothing, layers)):
        detach_all(model, state)
    return model


def _own_integration(model: nn.Module) -> Integration:
    """Return the integration of a model that has encodings without `install`."""
    try:
        integration = find_integration(model)
    except ValueError:
        integration = None
    if integration is None or not integration.computes_positions:
        raise ValueError(
            f"{type(model).__name__} holds no encoding of harope's: there is nothing to fold"
        )
    return integration


def _has_matrices(layer: Layer) -> bool:
    encoding = layer.attention.harope.unwrapped
    return isinstance(encoding, RotaryEncoding) and not isinstance(encoding.basis, Identity)


@torch.no_grad()
def _keeps_matrices(layer: Layer) -> bool:
    """Return whether matrices are left, computing them for the inference that follows."""
    return layer.attention.harope.unwrapped.reference_matrices() is not None


def _check_foldable(layer: Layer, projections: list[Projection]) -> None:
    """Raise ValueError if a projection or the encoding cannot be folded."""
    for projection in projections:
        reason = _not_foldable(projection.linear)
        if reason is not None:
            raise ValueError(
                f"{layer.name}.{projection.name} is not a bare Linear, so its basis cannot be "
                f"folded: {reason}"
            )
    if any(parameter.is_meta for parameter in layer.attention.harope.parameters()):
        raise ValueError(
            f"{layer.name}.harope is offloaded (its parameters are on the meta device), so its "
            f"basis cannot be folded: call harope.fold before offloading"
        )


def _not_foldable(linear: nn.Module) -> str | None:
    weight: Tensor | None = linear._parameters.get("weight")
    if is_bare(linear, own_forward(linear)) and weight is not None and not weight.is_meta:
        return None
    if getattr(linear, "parametrizations", None) is not None:
        return "remove the parametrization of its weight first"
    if weight is not None and weight.is_meta:
        return "its weight is offloaded: call harope.fold before offloading"
    if hasattr(weight, "full_tensor"):
        return "its weight is sharded: fold the model before sharding it"
    plain = weight is None or type(weight) in (Tensor, nn.Parameter)
    if weight is not None and not (plain and weight.is_floating_point()):
        return (
            f"its weight is a {type(weight).__name__} ({weight.dtype}): fold the model before "
            f"quantizing it"
        )
    return "merge adapters and remove hooks first"


@torch.no_grad()
def _fold(layer: Layer, projections: list[Projection]) -> None:
    encoding = layer.attention.harope.unwrapped
    matrices = encoding.reference_matrices()
    for part in projections:
        weight, bias = fold_projection(part.weight, part.bias, matrices[part.side], layer.num_heads)
        part.weight.copy_(weight)
        if part.bias is not None and bias is not None:
            part.bias.copy_(bias)
    encoding.basis = Identity()


def _does_nothing(layer: Layer) -> bool:
    encoding = layer.attention.harope.unwrapped
    if not isinstance(encoding, RotaryEncoding):
        return False
    return encoding.frequencies is None and isinstance(encoding.basis, Identity)

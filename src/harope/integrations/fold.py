"""Folding an installed encoding's matrices into its model's projections, for inference."""

import warnings

import torch
from torch import nn

from harope.integrations.api import detach
from harope.integrations.base import Layer, Projection
from harope.integrations.projections import FoldedQKVForward
from harope.integrations.state import InstallState, get_install_state
from harope.models.dit import DiT
from harope.models.dit.attention import is_bare
from harope.models.dit.fold import fold as fold_dit
from harope.rope import RotaryEncoding, fold_projection
from harope.rope.basis import Identity


class NotFoldedWarning(UserWarning):
    """Some of an encoding's matrices could not be folded and go on meeting every token."""


def fold(model: nn.Module) -> nn.Module:
    """Multiply the bases into the projections of queries and keys, in place; returns the model.

    Outputs stay the same up to rounding. Where the model's own rotation was kept, nothing of the
    encoding is left: modules, hooks and processors are the stock ones. Where the rotation is the
    encoding's, it stays, without matrices. Behind QK-norm matrices stay as they are (NotFoldedWarning).
    Raises ValueError where nothing is installed, or a projection is more than a Linear.
    """
    installation = get_install_state(model)
    if isinstance(model, DiT):
        if model.config.qk_norm and model.layers[0].attn.harope.matrices() is not None:
            _warn_stays([f"blocks.{index}.attn" for index in range(model.config.depth)], 3)
            return model
        folded = fold_dit(model)
        if installation is not None:
            installation.folded = True
        return folded
    if installation is None:
        raise ValueError(
            f"{type(model).__name__} holds no encoding of harope's: there is nothing to fold"
        )
    pairs = [
        (layer, installation.host.projections(layer.attention)) for layer in installation.layers
    ]
    for layer, projections in pairs:
        _check_bare(layer, projections)
    stays = [
        layer.name for layer, projections in pairs if not _fold(layer, projections, installation)
    ]
    if stays:
        _warn_stays(stays, stacklevel=3)
    if installation.layers and all(_does_nothing(layer) for layer in installation.layers):
        detach(model, installation)
    return model


def _warn_stays(names: list[str], stacklevel: int) -> None:
    warnings.warn(
        f"the matrices of {len(names)} attentions stay ({names[0]}, ...): QK-norm stands between "
        f"projection and rotation",
        NotFoldedWarning,
        stacklevel=stacklevel,
    )


def _check_bare(layer: Layer, projections: list[Projection]) -> None:
    for projection in projections:
        if not is_bare(projection.linear, FoldedQKVForward):
            raise ValueError(
                f"{layer.name}.{projection.name} is not a bare Linear, so its basis cannot be "
                f"folded: merge adapters and remove hooks first"
            )


@torch.no_grad()
def _fold(layer: Layer, projections: list[Projection], installation: InstallState) -> bool:
    """Whether the layer has no matrices any more."""
    encoding = layer.attention.harope.unwrapped
    matrices = encoding.matrices()
    if matrices is None:
        return True
    if not projections:
        return False
    installation.folded = True
    for part in projections:
        weight, bias = fold_projection(part.weight, part.bias, matrices[part.side], layer.num_heads)
        part.weight.copy_(weight)
        if part.bias is not None and bias is not None:
            part.bias.copy_(bias)
    encoding.basis = Identity()
    return True


def _does_nothing(layer: Layer) -> bool:
    encoding = layer.attention.harope.unwrapped
    assert isinstance(encoding, RotaryEncoding)
    return encoding.frequencies is None and isinstance(encoding.basis, Identity)

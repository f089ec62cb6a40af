"""Folding a model's bases into its projections, for inference."""

from dataclasses import replace

import torch

from harope.models.dit.layers import Attention
from harope.models.dit.model import DiT
from harope.rope import RotaryEncoding
from harope.rope._fast.folded_linear import fold_packed
from harope.rope.basis import Identity
from harope.rope.presets import BASIS_OPTIONS


def fold(model: DiT) -> DiT:
    """Fold the bases into the projections of queries and keys, in place.

    Afterwards it is a plain rotary model with the same outputs up to rounding: no matrices, no
    parameters of a basis, and a configuration with `basis: identity`. Models without a basis are
    not changed, nor are models with QK-norm, which prevents folding.

    Args:
        model: The model.

    Returns:
        The same model.

    Raises:
        ValueError: If a projection is more than a Linear, because it has adapters or hooks, or if
            the matrices depend on the condition of a sample. The model is not changed then.
    """
    if model.config.qk_norm:
        return model
    attentions = [block.attn for block in model.layers]
    for place, attention in enumerate(attentions):
        if attention.harope.needs_condition:
            raise ValueError(
                f"the basis of blocks.{place}.attn depends on the condition of every sample, so it "
                f"cannot be folded: use the model as it is"
            )
        if attention.harope.reference_matrices() is not None and not attention.is_bare:
            raise ValueError(
                f"blocks.{place}.attn.qkv is not a plain Linear, so its basis cannot be folded: "
                f"merge adapters and remove hooks first"
            )
    folded = [_fold(attention) for attention in attentions]
    if any(folded):
        kept = {
            name: value
            for name, value in model.config.encoding_options.items()
            if name not in BASIS_OPTIONS
        }
        options = {**kept, "basis": "identity"}
        model.config = replace(model.config, encoding_options=options)
    return model


@torch.no_grad()
def _fold(attention: Attention) -> bool:
    encoding = attention.harope
    matrices = encoding.reference_matrices()
    if matrices is None:
        return False
    assert isinstance(encoding, RotaryEncoding)
    linear = attention.qkv
    weight, bias = fold_packed(linear.weight, linear.bias, matrices, attention.num_heads)
    linear.weight.copy_(weight)
    assert bias is not None
    linear.bias.copy_(bias)
    encoding.basis = Identity()
    return True

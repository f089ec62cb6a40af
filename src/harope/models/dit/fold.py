"""Folding a model's bases into its projections, for inference."""

from dataclasses import replace

import torch

from harope.models.dit.attention import Attention
from harope.models.dit.model import DiT
from harope.rope import RotaryEncoding
from harope.rope._fast.folded_linear import fold_packed
from harope.rope.basis import Identity
from harope.rope.presets import BASIS_OPTIONS


def fold(model: DiT) -> DiT:
    """Multiply the bases into the projections of queries and keys, in place; returns the model.

    Afterwards it is the plain rotary model with the same outputs (up to rounding): no matrices, no
    parameters of a basis, and a configuration that says `basis: identity`. Models without a basis
    stay as they are, and so do models with QK-norm, which stands between projection and basis.
    Raises ValueError where a projection is more than a Linear (adapters, hooks).
    """
    if model.config.qk_norm:
        return model
    attentions = [block.attn for block in model.layers]
    for place, attention in enumerate(attentions):
        if attention.harope.matrices() is not None and not attention.is_bare:
            raise ValueError(
                f"blocks.{place}.attn.qkv is not a bare Linear, so its basis cannot be folded: "
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
    matrices = encoding.matrices()
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

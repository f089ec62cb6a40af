"""Costs of attention and of complete models: parameters, and multiply-adds on one image.

The multiply-adds of an attention block are exact, by formula. With N tokens, width D and H heads of
d = D / H channels:

    projections               4 N D^2        queries, keys, values, output
    scores and sums           2 N^2 D        q . k, and attention times values
    basis on the tokens       2 N D d        A q and A k for every token
    basis on the weights      2 D d (D + 1)  A W and A b, for any number of tokens and images
    basis folded              0              A W replaces W
    rotation                  4 N D          four multiplications per pair of queries and of keys

Joint attention (MMDiT, arXiv 2403.03206) has T text tokens with their own projections: 4 T D^2, or
3 T D^2 if the block has no text output. Scores, and the basis on the tokens, have N + T tokens; the
basis on the weights counts twice. Text is not rotated.

The computation of the matrices themselves is not included: they are cached unless the model is
training. A multiply-add is two operations of torch's FlopCounterMode, which counts matrix products
and convolutions only and so leaves out the rotation.
"""

import copy
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harope.integrations import fold
from harope.lab.analysis.inspected_model import AttentionLayer, InspectedModel
from harope.rope import RotaryEncoding, cached


@dataclass(frozen=True, kw_only=True)
class AttentionCost:
    """Multiply-adds of one attention block on one image."""

    projections: int
    """Projections of queries, keys, values and output."""
    scores: int
    """Queries times keys, and attention times values."""
    basis_on_tokens: int
    """Applying A to the tokens, which happens behind QK-norm or when there are few tokens;
    0 without a basis."""
    basis_on_weights: int
    """Folding A into the weights, which happens in every training step; 0 without a basis."""
    rotation: int
    """Rotation of queries and keys; 0 without a rotary encoding."""

    @property
    def plain(self) -> int:
        """Multiply-adds without an encoding, or with a folded one apart from its rotation."""
        return self.projections + self.scores


@dataclass(frozen=True, kw_only=True)
class ModelCosts:
    """Costs of a model and its attention blocks on one image."""

    tokens: int
    """Number of tokens without those of text."""
    text: int
    """Number of text tokens."""
    encoding_parameters: list[int]
    """Parameters of each layer's encoding."""
    attention_parameters: list[int] | None
    """Parameters of each attention block without its encoding, as after folding; None without a
    model."""
    model_parameters: int | None
    """Parameters of the model including all encodings; None without a model."""
    attention: list[AttentionCost]
    """Multiply-adds of each attention block."""
    model_multiply_adds: int | None
    """Multiply-adds of the model's matrix products and convolutions, without those of its bases;
    None without a model."""


def attention_cost(
    *,
    tokens: int,
    width: int,
    num_heads: int,
    has_basis: bool,
    rotates: bool,
    text_tokens: int = 0,
    has_text_output: bool = True,
) -> AttentionCost:
    """Compute the cost of an attention block by the formulas of this module.

    Args:
        tokens: Number of tokens, including those without a position and excluding text tokens.
        width: Number of channels of all heads together.
        num_heads: Number of heads.
        has_basis: Whether queries and keys are multiplied by matrices.
        rotates: Whether the encoding rotates queries and keys.
        text_tokens: Number of tokens with projections of their own.
        has_text_output: Whether text tokens have an output projection.

    Returns:
        Multiply-adds of the block on one image.

    Raises:
        ValueError: The width is not a multiple of `num_heads`.
    """
    if width % num_heads:
        raise ValueError(f"width {width} is not a multiple of num_heads {num_heads}")
    head_dim, all_tokens = width // num_heads, tokens + text_tokens
    no_output = 0 if has_text_output else text_tokens
    on_weights = 2 * width * head_dim * (width + 1) * (2 if text_tokens else 1)
    return AttentionCost(
        projections=(4 * all_tokens - no_output) * width**2,
        scores=2 * all_tokens**2 * width,
        basis_on_tokens=2 * all_tokens * width * head_dim if has_basis else 0,
        basis_on_weights=on_weights if has_basis else 0,
        rotation=4 * tokens * width if rotates else 0,
    )


def count_costs(inspected: InspectedModel) -> ModelCosts:
    """Count parameters and multiply-adds of a model, or of an encoding without its model.

    Args:
        inspected: Model, or encoding without its model.

    Returns:
        Costs; those of the model are None if there is no model.
    """
    model = inspected.model
    encoding_parameters = [count_parameters(layer.encoding) for layer in inspected.layers]
    attention_parameters = None
    if model is not None:
        blocks = [model.get_submodule(layer.name) for layer in inspected.layers]
        # Only encodings installed in the attention are submodules of it.
        contained = [
            count if hasattr(block, "harope") else 0
            for block, count in zip(blocks, encoding_parameters, strict=True)
        ]
        attention_parameters = [
            count_parameters(block) - count for block, count in zip(blocks, contained, strict=True)
        ]
    return ModelCosts(
        tokens=inspected.sizes[0] * inspected.sizes[1] + inspected.num_prefix_tokens,
        text=inspected.num_text_tokens,
        encoding_parameters=encoding_parameters,
        attention_parameters=attention_parameters,
        model_parameters=None if model is None else count_parameters(model),
        attention=[_layer_cost(inspected, layer) for layer in inspected.layers],
        model_multiply_adds=None if model is None else _count_model(inspected),
    )


def count_parameters(module: nn.Module) -> int:
    """Return the number of elements of all parameters.

    Args:
        module: Module, with its submodules.

    Returns:
        Number of elements, of trained and frozen parameters.
    """
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_multiply_adds(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Count the multiply-adds of a forward pass with FlopCounterMode.

    It runs with the unfused attention, since the counter does not know all fused ones. Matrices of
    encodings, which are the same for all images, are not counted.

    Args:
        model: Model to run, in eval mode.
        inputs: Arguments of its forward pass.

    Returns:
        Multiply-adds of the matrix products and convolutions.
    """
    counter = FlopCounterMode(display=False)
    with cached(model), sdpa_kernel(SDPBackend.MATH):
        model(*inputs)
        with counter:
            model(*inputs)
    return counter.get_total_flops() // 2


def _layer_cost(inspected: InspectedModel, layer: AttentionLayer) -> AttentionCost:
    encoding = layer.encoding
    block: Any = None if inspected.model is None else inspected.model.get_submodule(layer.name)
    # The second attention of an SD3.5 block sees the image only; the last block has no text output.
    sees_text = getattr(block, "add_k_proj", None) is not None
    cost = attention_cost(
        tokens=inspected.sizes[0] * inspected.sizes[1] + inspected.num_prefix_tokens,
        width=encoding.num_heads * encoding.head_dim,
        num_heads=encoding.num_heads,
        has_basis=encoding.reference_matrices() is not None,
        rotates=isinstance(encoding, RotaryEncoding) and encoding.frequencies is not None,
        text_tokens=inspected.num_text_tokens if sees_text else 0,
        has_text_output=getattr(block, "to_add_out", None) is not None,
    )
    return replace(cost, basis_on_weights=0) if _has_qk_norm(inspected, layer) else cost


def _has_qk_norm(inspected: InspectedModel, layer: AttentionLayer) -> bool:
    """Return whether QK-norm prevents folding the basis into the weights."""
    return inspected.model is not None and layer.projections is None


def _count_model(inspected: InspectedModel) -> int:
    assert inspected.model is not None
    model = copy.deepcopy(inspected.model)
    if any(layer.encoding.reference_matrices() is not None for layer in inspected.layers):
        with warnings.catch_warnings():
            # `fold` warns about bases behind QK-norm, whose cost is subtracted below.
            warnings.simplefilter("ignore")
            fold(model)
    unfolded = [
        _layer_cost(inspected, layer)
        for layer in inspected.layers
        if _has_qk_norm(inspected, layer)
    ]
    counted = count_multiply_adds(model, inspected.example)
    return counted - sum(cost.basis_on_tokens for cost in unfolded)

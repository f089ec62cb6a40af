"""What the attention of a subject costs, by formula, and its whole model, counted."""

import copy
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harope.integrations import fold
from harope.lab.analysis.flops import AttentionCost, attention_cost
from harope.lab.analysis.inspected_model import InspectedModel, Layer
from harope.rope import RotaryEncoding


@dataclass(frozen=True, kw_only=True)
class ModelCosts:
    """Of all attention blocks on one image, one after the other, and of the model."""

    tokens: int
    """Without those of text."""
    text: int
    """Tokens of text."""
    encoding_parameters: list[int]
    attention_parameters: list[int] | None
    """Without the encoding, as after folding; None without a model."""
    model_parameters: int | None
    """With all encodings."""
    attention: list[AttentionCost]
    """Multiply-adds."""
    model_multiply_adds: int | None
    """Of the whole model on one image without its bases, as torch counts matrix products and
    convolutions: without rotations."""


def count_costs(subject: InspectedModel) -> ModelCosts:
    """Parameters are counted; multiply-adds of attention are by formula (evaluation/cost.py)."""
    model = subject.model
    own = [count_parameters(layer.encoding) for layer in subject.layers]
    attentions = None
    if model is not None:
        blocks = [model.get_submodule(layer.name) for layer in subject.layers]
        inside = [
            count if hasattr(b, "harope") else 0 for b, count in zip(blocks, own, strict=True)
        ]
        attentions = [count_parameters(b) - n for b, n in zip(blocks, inside, strict=True)]
    return ModelCosts(
        tokens=subject.sizes[0] * subject.sizes[1] + subject.prefix,
        text=subject.text,
        encoding_parameters=own,
        attention_parameters=attentions,
        model_parameters=None if model is None else count_parameters(model),
        attention=[_layer_cost(subject, layer) for layer in subject.layers],
        model_multiply_adds=None if model is None else _count_model(subject),
    )


def _layer_cost(subject: InspectedModel, layer: Layer) -> AttentionCost:
    encoding = layer.encoding
    block: Any = None if subject.model is None else subject.model.get_submodule(layer.name)
    # A second attention of SD3.5 sees the image alone; in the last block the text ends.
    sees_text = getattr(block, "add_k_proj", None) is not None
    cost = attention_cost(
        tokens=subject.sizes[0] * subject.sizes[1] + subject.prefix,
        width=encoding.num_heads * encoding.head_dim,
        num_heads=encoding.num_heads,
        has_basis=encoding.matrices() is not None,
        rotates=isinstance(encoding, RotaryEncoding) and encoding.frequencies is not None,
        text_tokens=subject.text if sees_text else 0,
        has_text_output=getattr(block, "to_add_out", None) is not None,
    )
    return replace(cost, basis_on_weights=0) if _stays(subject, layer) else cost


def _stays(subject: InspectedModel, layer: Layer) -> bool:
    """Whether a norm keeps the basis on the tokens."""
    return subject.model is not None and layer.projections is None


def count_parameters(module: nn.Module) -> int:
    """Learned numbers."""
    return sum(parameter.numel() for parameter in module.parameters())


def _count_model(subject: InspectedModel) -> int:
    assert subject.model is not None
    model = copy.deepcopy(subject.model)
    if any(layer.encoding.matrices() is not None for layer in subject.layers):
        with warnings.catch_warnings():
            # Behind QK-norm matrices stay.
            warnings.simplefilter("ignore")
            fold(model)
    stay = [_layer_cost(subject, layer) for layer in subject.layers if _stays(subject, layer)]
    counted = multiply_adds(model, subject.example)
    return counted - sum(cost.basis_on_tokens for cost in stay)


@torch.no_grad()
def multiply_adds(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Of a forward, as FlopCounterMode counts, whose table lacks some fused attentions."""
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        model(*inputs)
    return counter.get_total_flops() // 2

"""What the attention of a subject costs, by formula, and its whole model, counted."""

import copy
import warnings
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harope.evaluation.cost import AttentionCost, attention_cost
from harope.hosts import fold
from harope.models import DiT
from harope.report.subject import Subject
from harope.rope import RotaryEncoding


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of one attention block (the first; all are alike), of all of them, and of the model."""

    tokens: int
    blocks: int
    encoding_parameters: int
    """Of one block."""
    attention_parameters: int | None
    """Of one block without its encoding; None without a model."""
    model_parameters: int | None
    """With all encodings."""
    attention: AttentionCost
    """Multiply-adds of one block on one image."""
    model_multiply_adds: int | None
    """Of the whole model on one image, its bases folded, as torch counts matrix products and
    convolutions: without rotations."""


def count_costs(subject: Subject) -> Costs:
    """Parameters are counted; multiply-adds of attention are by formula (evaluation/cost.py)."""
    encoding = subject.layers[0].encoding
    tokens = subject.sizes[0] * subject.sizes[1] + subject.prefix
    own = count_parameters(encoding)
    attention = None
    if subject.model is not None:
        block = subject.model.get_submodule(subject.layers[0].name)
        attention = count_parameters(block) - (own if hasattr(block, "harope") else 0)
    return Costs(
        tokens=tokens,
        blocks=len(subject.layers),
        encoding_parameters=own,
        attention_parameters=attention,
        model_parameters=None if subject.model is None else count_parameters(subject.model),
        attention=attention_cost(
            tokens=tokens,
            width=encoding.num_heads * encoding.head_dim,
            num_heads=encoding.num_heads,
            has_basis=encoding.matrices() is not None,
            rotates=isinstance(encoding, RotaryEncoding) and encoding.frequencies is not None,
        ),
        model_multiply_adds=None if subject.model is None else _count_model(subject),
    )


def count_parameters(module: nn.Module) -> int:
    """Learned numbers."""
    return sum(parameter.numel() for parameter in module.parameters())


def _count_model(subject: Subject) -> int:
    assert subject.model is not None
    model = copy.deepcopy(subject.model)
    if any(layer.encoding.matrices() is not None for layer in subject.layers):
        with warnings.catch_warnings():
            # Behind QK-norm matrices stay, and are counted.
            warnings.simplefilter("ignore")
            fold(model)
    return multiply_adds(model, example_inputs(subject))


@torch.no_grad()
def multiply_adds(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Of a forward, as FlopCounterMode counts, whose table lacks some fused attentions."""
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        model(*inputs)
    return counter.get_total_flops() // 2


def example_inputs(subject: Subject) -> tuple[torch.Tensor, ...]:
    """Zeros for one image of the subject's grid."""
    model, config = subject.model, subject.config
    height, width = (subject.patch_size * size for size in subject.sizes)
    x = torch.zeros(1, config.in_channels, height, width)
    if not isinstance(model, DiT):
        return (x,)
    labels = (torch.zeros(1, dtype=torch.long),) if config.num_classes else ()
    return (x, torch.zeros(1), *labels)

"""Replacing the processors of diffusers' attentions, and noticing when others replace ours."""

from typing import Any

from harope.integrations.base import Layer
from harope.integrations.state import InstallState

STOCK = ("AttnProcessor", "AttnProcessor2_0", "JointAttnProcessor2_0", "FluxAttnProcessor")
"""Default processors, the only ones that `install` replaces."""


def check_stock_processor(layer: Layer) -> None:
    """Raise ValueError if the attention's processor is not a default one."""
    name = type(layer.attention.processor).__name__
    if name not in STOCK:
        raise ValueError(
            f"{layer.name} has the processor {name}, which the encoding's would replace: "
            f"set the model's default processors first"
        )


def check_processor(layer: Layer, expected: str) -> None:
    """Raise ValueError if the attention's processor is no longer the encoding's."""
    name = type(layer.attention.processor).__name__
    if name != expected:
        raise ValueError(
            f"{layer.name} has got the processor {name}, so its encoding would be left out: undo "
            f"what set it (IP-Adapter, fused projections), or call harope.remove(model)"
        )


def set_processor_of(layer: Layer, processor: Any, state: InstallState) -> None:
    """Replace an attention's processor, keeping its attention backend, and save the old one."""
    previous = layer.attention.processor
    state.originals[layer.name] = previous
    for name in ("_attention_backend", "_parallel_config"):
        if hasattr(processor, name) and getattr(previous, name, None) is not None:
            setattr(processor, name, getattr(previous, name))
    layer.attention.set_processor(processor)


def restore_processor(layer: Layer, state: InstallState) -> None:
    """Set the saved processor again."""
    layer.attention.set_processor(state.originals.pop(layer.name))

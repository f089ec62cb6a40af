"""Exchanging the processors of diffusers' attentions, and noticing when others do."""

from typing import Any

from harope.integrations.base import Layer
from harope.integrations.state import InstallState

# Processors that an encoding may take the place of: they are what the models start with.
STOCK = ("AttnProcessor", "AttnProcessor2_0", "JointAttnProcessor2_0", "FluxAttnProcessor")


def check_stock_processor(layer: Layer) -> None:
    """Raise ValueError where the attention's processor is not the one it started with."""
    name = type(layer.attention.processor).__name__
    if name not in STOCK:
        raise ValueError(
            f"{layer.name} has the processor {name}, which the encoding's would replace: "
            f"set the model's default processors first"
        )


def check_processor(layer: Layer, expected: str) -> None:
    """Raise ValueError where the attention's processor is no longer the encoding's."""
    name = type(layer.attention.processor).__name__
    if name != expected:
        raise ValueError(
            f"{layer.name} has got the processor {name}, so its encoding would be left out: undo "
            f"what set it (IP-Adapter, fused projections), or call harope.remove(model)"
        )


def set_processor_of(layer: Layer, processor: Any, installation: InstallState) -> None:
    """Set an attention's processor, keeping the one that was there."""
    installation.originals[layer.name] = layer.attention.processor
    layer.attention.set_processor(processor)


def restore_processor(layer: Layer, installation: InstallState) -> None:
    """The reverse."""
    layer.attention.set_processor(installation.originals.pop(layer.name))

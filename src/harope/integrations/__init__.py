"""Encodings in models of timm and diffusers: install, remove, fold, save and load them."""

from harope.integrations.api import (
    ModelChangedWarning,
    get_encodings,
    install,
    remove,
    use_positions,
)
from harope.integrations.attention import Projection
from harope.integrations.base import Integration, Layer
from harope.integrations.folding import NotFoldedWarning, fold
from harope.integrations.lora import (
    adapters_disabled,
    check_lora,
    load_adapters,
    save_adapters,
    unload_adapters,
)
from harope.integrations.serialization import load_encoding, read_description, save_encoding

__all__ = [
    "Integration",
    "Layer",
    "ModelChangedWarning",
    "NotFoldedWarning",
    "Projection",
    "adapters_disabled",
    "check_lora",
    "fold",
    "get_encodings",
    "install",
    "load_adapters",
    "load_encoding",
    "read_description",
    "remove",
    "save_adapters",
    "save_encoding",
    "unload_adapters",
    "use_positions",
]

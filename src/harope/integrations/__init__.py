"""Encodings in models that people already use: install, remove, fold, save, load."""

from harope.integrations.api import ModelChangedWarning, install, remove
from harope.integrations.base import Host, Layer, Projection
from harope.integrations.fold import NotFoldedWarning, fold
from harope.integrations.lora import adapters_disabled, check_lora, load_adapters, save_adapters
from harope.integrations.serialization import load_encoding, read_description, save_encoding

__all__ = [
    "Host",
    "Layer",
    "ModelChangedWarning",
    "NotFoldedWarning",
    "Projection",
    "adapters_disabled",
    "check_lora",
    "fold",
    "install",
    "load_adapters",
    "load_encoding",
    "read_description",
    "remove",
    "save_adapters",
    "save_encoding",
]

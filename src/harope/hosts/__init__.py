"""Encodings in models that people already use: install, remove, fold, save, load."""

from harope.hosts.adapters import adapters_disabled, check_lora, load_adapters, save_adapters
from harope.hosts.files import load_encoding, read_description, save_encoding
from harope.hosts.fold import StaysWarning, fold
from harope.hosts.host import Host, Layer, Projection
from harope.hosts.install import ModelChangedWarning, install, remove

__all__ = [
    "Host",
    "Layer",
    "ModelChangedWarning",
    "Projection",
    "StaysWarning",
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

"""Encodings in models that people already use: install, remove, fold, save, load."""

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
    "fold",
    "install",
    "load_encoding",
    "read_description",
    "remove",
    "save_encoding",
]

"""Encodings in models that people already use: install, remove, fold, save, load."""

from harope.hosts.host import Host, Layer, Projection
from harope.hosts.install import ModelChangedWarning, install, remove

__all__ = ["Host", "Layer", "ModelChangedWarning", "Projection", "install", "remove"]

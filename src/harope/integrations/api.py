"""Putting an encoding into a model, and taking it out again."""

import warnings
from typing import Any

import torch
from torch import nn

from harope._utils.rng import isolated_torch_rng
from harope.integrations.base import AbsoluteKind, Host, Layer, Model
from harope.integrations.registry import find_integration
from harope.integrations.state import (
    INSTALLATION,
    SEAT,
    AttentionHook,
    InstallState,
    get_install_state,
)
from harope.rope import EncodingConfig, create_encoding, encoding_config
from harope.rope.config import has_effect
from harope.rope.encoding import PositionalEncoding


class ModelChangedWarning(UserWarning):
    """An installed encoding changes what the model computes, before any training."""


def install(
    model: nn.Module,
    name: str = "harope",
    *,
    keep_absolute: bool = True,
    host: Host | None = None,
    **options: Any,
) -> nn.Module:
    """Put an encoding into a model, in place; returns the model.

    Args:
        model: one of timm (VisionTransformer, Eva), diffusers (DiT, SD3, FLUX) or ours.
        name: one of `harope.list_encodings()`.
        keep_absolute: whether the model's own absolute embedding stays.
        host: how the model takes encodings; by default the one that knows it.
        options: parts of the encoding's preset to replace (see EncodingConfig). Where the model has
            a rotation of its own, `harope`, `axial` and `rethinking` keep it (`frequencies="host"`)
            unless frequencies are named. On other models `frequencies="host"` is the basis alone.

    Parameters live at the attentions' `harope`, in float32 on the model's device. Warns
    (ModelChangedWarning) where the model's output is another than before.
    Raises ValueError for models and options that do not go together.
    """
    held = get_install_state(model)
    if held is not None:
        raise ValueError(
            f"the model holds an encoding already ({held.name}): call harope.remove(model) first"
        )
    host = host or find_integration(model)
    kept = _keeps_rotation(host, model, name, options)
    options = _complete(host, model, name, options, kept)
    config = encoding_config(name, **options)
    host.check(model, config)
    _check_basis_alone(host, model, name, config)
    if not keep_absolute and host.absolute(model) is None:
        raise ValueError(
            f"keep_absolute is False but {host.title} has no absolute embedding: leave it out"
        )
    installation = InstallState(host, name, options, keep_absolute)
    _Installer(host, model, installation, config, kept).run()
    return model


def remove(model: nn.Module) -> nn.Module:
    """Take the encoding out again, in place: the model is what it was, bit for bit.

    Raises ValueError where nothing is installed, or weights were changed by `fold`.
    """
    installation = get_install_state(model)
    if installation is None:
        raise ValueError("the model holds no encoding of harope's: there is nothing to remove")
    if installation.folded:
        raise ValueError(
            "the encoding was folded into the model's weights and cannot be removed: "
            "load the original weights again"
        )
    detach(model, installation)
    installation.host.restore(model, installation)
    return model


def detach(model: nn.Module, installation: InstallState) -> None:
    """Take the encoding's modules, seats and hooks out, and nothing else."""
    for layer in installation.layers:
        installation.host.detach(layer, installation)
        delattr(layer.attention, SEAT)
        delattr(layer.attention, "harope")
        if f"{layer.name}.harope" in installation.originals:
            layer.attention.harope = installation.originals.pop(f"{layer.name}.harope")
    for handle in installation.handles:
        handle.remove()
    if installation.adds_embedding:
        installation.host.remove_embedding(model, installation)
    delattr(model, INSTALLATION)


class _Installer:
    """The steps of one installation."""

    def __init__(
        self,
        host: Host,
        model: Model,
        installation: InstallState,
        config: EncodingConfig,
        keeps_rotation: bool,
    ) -> None:
        self.host, self.model, self.keeps_rotation = host, model, keeps_rotation
        self.installation, self.config = installation, config
        self.changes: list[str] = []

    def run(self) -> None:
        """Take out what is replaced, put in what is new, and say what has changed."""
        host, model, installation = self.host, self.model, self.installation
        layers = host.layers(model)
        encodings = [self._encoding(layer) for layer in layers]
        adds = self.config.embedding not in ("none", self._kept_absolute())
        self._drop_own(adds)
        if self.config.frequencies != "none":
            installation.layers = layers
            for index, (layer, encoding) in enumerate(zip(layers, encodings, strict=True)):
                self._seat(index, layer, encoding)
        host.watch(model, installation)
        if adds:
            embedding = encodings[0].to(_device(model)).train(model.training)
            host.add_embedding(model, embedding, installation)
            installation.adds_embedding = True
            self.changes.append(f"an embedding {self.config.embedding!r} is added to its tokens")
        setattr(model, INSTALLATION, installation)
        if self.changes:
            warnings.warn(
                f"{installation.name!r} changes what {host.title} computes, so train it: "
                f"{', '.join(self.changes)}",
                ModelChangedWarning,
                stacklevel=4,
            )

    def _seat(self, index: int, layer: Layer, encoding: PositionalEncoding) -> None:
        attention = layer.attention
        if hasattr(attention, "harope"):
            self.installation.originals.setdefault(f"{layer.name}.harope", attention.harope)
        attention.harope = encoding.to(_device(attention)).train(attention.training)
        setattr(attention, SEAT, AttentionHook(attention, self.installation, index))
        self.host.seat(layer, self.installation)

    def _encoding(self, layer: Layer) -> PositionalEncoding:
        # Encodings that draw at random must not shift the draws of what is made after them.
        with isolated_torch_rng():
            return create_encoding(
                self.installation.name,
                num_heads=layer.num_heads,
                head_dim=layer.head_dim,
                num_axes=self.host.num_axes,
                **self.installation.options,
            )

    def _kept_absolute(self) -> AbsoluteKind | None:
        """The model's own absolute embedding, if it stays."""
        return self.host.absolute(self.model) if self.installation.keep_absolute else None

    def _drop_own(self, adds_embedding: bool) -> None:
        """Switch off what the encoding stands in for."""
        host, model, frequencies = self.host, self.model, self.config.frequencies
        if frequencies not in ("none", "host") and not self.keeps_rotation:
            self.changes.append(f"queries and keys turn by {frequencies} angles")
        if host.rotates(model) and frequencies != "host" and not self.keeps_rotation:
            host.disable_rope(model, self.installation)
            self.changes.append("its own rotation is off")
        goes = adds_embedding or not self.installation.keep_absolute
        if goes and host.absolute(model) is not None:
            host.disable_pos_embed(model, self.installation)
            self.changes.append("its own absolute embedding is off")


def _check_basis_alone(host: Host, model: nn.Module, name: str, config: EncodingConfig) -> None:
    """Raise ValueError for a basis that cancels: q^T A A^-1 k = q^T k where nothing rotates."""
    if config.frequencies != "host" or host.rotates(model):
        return
    if config.basis == "orthogonal" or (
        has_effect(config, "pairing") and config.pairing == "inverse"
    ):
        raise ValueError(
            f"encoding {name!r} with frequencies 'host' does nothing in {host.title}, which "
            f"has no rotation: the matrices of queries and keys cancel; use pairing 'same' (with "
            f"basis svd, free or diagonal), or name frequencies such as 'axial'"
        )


def _keeps_rotation(host: Host, model: nn.Module, name: str, options: dict[str, Any]) -> bool:
    """Whether the model's own rotation stands for the encoding's: nothing speaks against it."""
    config = encoding_config(name, **options)
    asked = {"frequencies", "theta", "axes_dim", "learned_frequencies", "layout"} & set(options)
    plain = config.frequencies == "axial" and not config.learned_frequencies
    return host.rotates(model) and plain and not asked


def _complete(
    host: Host, model: nn.Module, name: str, options: dict[str, Any], keeps_rotation: bool
) -> dict[str, Any]:
    """The options, with those that the model settles."""
    if keeps_rotation:
        return {**options, **host.kept_rotation(model)}
    if encoding_config(name, **options).frequencies == "axial":
        return {**host.default_options(model), **options}
    return options


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device

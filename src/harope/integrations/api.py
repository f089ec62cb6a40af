"""Installing an encoding in a model, using it, and removing it again."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harope._utils.rng import isolated_torch_rng
from harope.integrations.adapters import AdapterHook, encoding_slots, follow_adapters
from harope.integrations.attention import ATTENTION_HOOK, AttentionHook
from harope.integrations.base import (
    INSTALL_STATE,
    AbsoluteKind,
    InstallState,
    Integration,
    Layer,
    get_install_state,
)
from harope.integrations.forward import ForwardTracker, LayerHooks, Model
from harope.integrations.registry import find_integration
from harope.rope import EncodingConfig, create_encoding, encoding_config
from harope.rope.config import has_effect
from harope.rope.encoding import PositionalEncoding
from harope.rope.frequencies import Axial
from harope.rope.presets import PRESETS


class ModelChangedWarning(UserWarning):
    """An installed encoding changes what the model computes, before any training."""


def install(
    model: nn.Module,
    name: str | EncodingConfig = "harope",
    *,
    keep_absolute: bool = True,
    integration: Integration | None = None,
    **options: Any,
) -> nn.Module:
    """Install an encoding in a model, in place.

    The parameters are the attentions' submodules `harope`, in float32 on the model's device. A
    ModelChangedWarning says what changes in the model's output.

    Args:
        model: A model of timm (VisionTransformer, Eva) or diffusers (DiT, SD3, FLUX), or a
            harope.DiT.
        name: Name of a preset (see `harope.list_encodings()`), or an EncodingConfig.
        keep_absolute: Whether the model's own absolute embedding stays.
        integration: Support for the model's family; found by the model's class by default.
        options: Fields of EncodingConfig that replace the preset's. If the model has a rotation of
            its own, `harope`, `axial` and `rethinking` keep it (`frequencies="host"`) unless an
            option about frequencies is given. On other models `frequencies="host"` is the basis
            alone.

    Returns:
        The same model.

    Raises:
        ValueError: An encoding is installed already, the model is not supported, or model and
            options conflict.
    """
    installed = get_install_state(model)
    if installed is not None:
        raise ValueError(
            f"the model holds an encoding already ({installed.name}): call harope.remove(model) "
            f"first"
        )
    integration = integration or find_integration(model)
    if isinstance(name, EncodingConfig):
        name, options = _preset_and_options(name, options)
        keeps_rotation = False
    else:
        keeps_rotation = _keeps_rotation(integration, model, name, options)
    options = _complete(integration, model, name, options, keeps_rotation)
    config = encoding_config(name, **options)
    integration.check(model, config)
    _check_basis_alone(integration, model, name, config)
    if not keep_absolute and integration.absolute(model) is None:
        raise ValueError(
            f"keep_absolute is False but {integration.title} has no absolute embedding: leave it "
            f"out"
        )
    state = InstallState(integration, name, options, keep_absolute)
    _Installer(integration, model, state, config, keeps_rotation).run()
    return model


def remove(model: nn.Module) -> nn.Module:
    """Remove the installed encoding, in place: the model is what it was, bit for bit.

    Args:
        model: A model that `harope.install` was called on.

    Returns:
        The same model.

    Raises:
        ValueError: No encoding is installed, or `harope.fold` has changed weights.
    """
    state = get_install_state(model)
    if state is None:
        raise ValueError("the model holds no encoding of harope's: there is nothing to remove")
    if state.folded:
        raise ValueError(
            "the encoding was folded into the model's weights and cannot be removed: "
            "load the original weights again"
        )
    detach_all(model, state)
    state.integration.restore(model, state)
    return model


def get_encodings(model: nn.Module) -> dict[str, PositionalEncoding]:
    """Return the encodings of a model's attentions by the attention's path.

    Args:
        model: A model that `harope.install` was called on, or a harope.DiT.

    Returns:
        For every attention its encoding, such as `{"blocks.0.attn": RotaryEncoding(...)}`; empty
        if the encoding is an absolute embedding. With PEFT, those of the active adapter.

    Raises:
        ValueError: The model has no encoding.
    """
    state = get_install_state(model)
    integration = state.integration if state is not None else find_integration(model)
    if integration.computes_positions:
        layers = integration.layers(model)
        return {layer.name: layer.attention.harope.unwrapped for layer in layers}
    if state is None:
        raise ValueError(
            f"{type(model).__name__} has no encoding of harope: call harope.install first"
        )
    follow_adapters(model, state)
    slots = {slot.name: slot for slot in encoding_slots(state, model)}
    names = [layer.name for layer in state.layers if f"{layer.name}.harope" in slots]
    return {name: slots[f"{name}.harope"].encoding() for name in names}


@contextmanager
def use_positions(model: nn.Module, positions: Tensor) -> Iterator[None]:
    """Use these positions instead of the model's grid, inside a `with` block.

    For crops (rows and columns of the whole image), for tokens that were dropped or packed, and for
    blocks or attentions that are called on their own.

    Args:
        model: A model that `harope.install` was called on, or a harope.DiT.
        positions: (tokens, axes) or (batch, tokens, axes), with columns (y, x) for images. One row
            per token, without class and register tokens; in FLUX for text and image tokens.

    Raises:
        ValueError: The positions are malformed or the encoding uses none; inside the block, if
            they do not fit the tokens.
    """
    state = get_install_state(model)
    integration = state.integration if state is not None else find_integration(model)
    _check_positions(model, positions, integration, state)
    with integration.positions_given(model, positions, state):
        yield


def detach_all(model: nn.Module, state: InstallState) -> None:
    """Remove the encoding's modules, attention hooks and module hooks, and nothing else.

    Args:
        model: The model.
        state: Its InstallState.
    """
    for layer in state.layers:
        state.integration.detach(layer, state)
        delattr(layer.attention, ATTENTION_HOOK)
        delattr(layer.attention, "harope")
        if f"{layer.name}.harope" in state.originals:
            layer.attention.harope = state.originals.pop(f"{layer.name}.harope")
    for handle in state.handles:
        handle.remove()
    for method in state.integration.refused_methods:
        delattr(model, method)
    if state.adds_embedding:
        state.integration.remove_embedding(model, state)
    delattr(model, INSTALL_STATE)


class _Installer:
    """The steps of one installation."""

    def __init__(
        self,
        integration: Integration,
        model: Model,
        state: InstallState,
        config: EncodingConfig,
        keeps_rotation: bool,
    ) -> None:
        self.integration, self.model, self.keeps_rotation = integration, model, keeps_rotation
        self.state, self.config = state, config
        self.changes: list[str] = []

    def run(self) -> None:
        """Disable what is replaced, attach the encodings, and say what has changed."""
        integration, model, state = self.integration, self.model, self.state
        layers = integration.layers(model)
        encodings = [self._encoding(layer) for layer in layers]
        adds = self.config.embedding not in ("none", self._kept_absolute())
        self._disable_own(adds)
        if self.config.frequencies != "none":
            state.layers, state.tracker = layers, ForwardTracker(len(layers))
        if not integration.computes_positions:
            state.handles.append(model.register_forward_pre_hook(AdapterHook(state)))
            state.handles += state.tracker.register(model)
        if state.layers:
            for index, (layer, encoding) in enumerate(zip(layers, encodings, strict=True)):
                self._attach(index, layer, encoding)
        integration.register_position_hook(model, state)
        if adds:
            embedding = encodings[0].to(_device(model)).train(model.training)
            integration.add_embedding(model, embedding, state)
            state.adds_embedding = True
            self.changes.append(f"an embedding {self.config.embedding!r} is added to its tokens")
        for method, reason in integration.refused_methods.items():
            setattr(model, method, partial(_refuse, reason))
        setattr(model, INSTALL_STATE, state)
        if self.changes:
            warnings.warn(
                f"{state.name!r} changes what {integration.title} computes, so train it: "
                f"{', '.join(self.changes)}",
                ModelChangedWarning,
                stacklevel=3,
            )

    def _attach(self, index: int, layer: Layer, encoding: PositionalEncoding) -> None:
        attention = layer.attention
        if hasattr(attention, "harope"):
            self.state.originals.setdefault(f"{layer.name}.harope", attention.harope)
        attention.harope = encoding.to(_device(attention)).train(attention.training)
        hook = AttentionHook(attention, self.state.tracker, index)
        setattr(attention, ATTENTION_HOOK, hook)
        if not self.integration.computes_positions:
            self.state.handles += hook.register(attention)
            if not self.integration.passes_positions:
                # A block or an attention may be what gradient checkpointing runs again.
                block = self.model.get_submodule(layer.name.rpartition(".")[0])
                for module in (block, attention):
                    self.state.handles += LayerHooks(self.state.tracker, index).register(module)
        self.integration.attach(layer, self.state)

    def _encoding(self, layer: Layer) -> PositionalEncoding:
        # Random initial values must not change those of modules that are created afterwards.
        with isolated_torch_rng():
            return create_encoding(
                self.state.name,
                num_heads=layer.num_heads,
                head_dim=layer.head_dim,
                num_axes=self.integration.num_axes,
                **self.state.options,
            )

    def _kept_absolute(self) -> AbsoluteKind | None:
        """Return the kind of the model's own absolute embedding, if it stays."""
        return self.integration.absolute(self.model) if self.state.keep_absolute else None

    def _disable_own(self, adds_embedding: bool) -> None:
        """Disable the parts of the model that the encoding replaces."""
        integration, model, frequencies = self.integration, self.model, self.config.frequencies
        if frequencies not in ("none", "host") and not self.keeps_rotation:
            self.changes.append(f"queries and keys turn by {frequencies} angles")
        if integration.rotates(model) and frequencies != "host" and not self.keeps_rotation:
            integration.disable_rope(model, self.state)
            self.changes.append("its own rotation is off")
        goes = adds_embedding or not self.state.keep_absolute
        if goes and integration.absolute(model) is not None:
            integration.disable_pos_embed(model, self.state)
            self.changes.append("its own absolute embedding is off")


def _check_basis_alone(
    integration: Integration, model: nn.Module, name: str, config: EncodingConfig
) -> None:
    """Raise ValueError for a basis that cancels: q^T A A^-1 k = q^T k where nothing rotates."""
    if config.frequencies != "host" or integration.rotates(model):
        return
    if config.basis == "orthogonal" or (
        has_effect(config, "pairing") and config.pairing == "inverse"
    ):
        raise ValueError(
            f"encoding {name!r} with frequencies 'host' does nothing in {integration.title}, which "
            f"has no rotation: the matrices of queries and keys cancel; use pairing 'same' (with "
            f"basis svd, free or diagonal), or name frequencies such as 'axial'"
        )


def _keeps_rotation(
    integration: Integration, model: nn.Module, name: str, options: dict[str, Any]
) -> bool:
    """Return whether to reuse the model's own rotation.

    True if the encoding is plain axial and no option about its angles is given.
    """
    given = {"frequencies", "theta", "layout", "positions", *Axial.options} & set(options)
    return integration.rotates(model) and _is_plain_axial(name, options) and not given


def _is_plain_axial(name: str, options: dict[str, Any]) -> bool:
    """Return whether angles are those of axial, with a spectrum that is that of the model."""
    config = encoding_config(name, **options)
    return (
        (config.positions, config.frequencies) == ("index", "axial")
        and (config.rotary_fraction, config.frequency_scale) == (1.0, 1.0)
        and not config.learned_frequencies
    )


def _complete(
    integration: Integration,
    model: nn.Module,
    name: str,
    options: dict[str, Any],
    keeps_rotation: bool,
) -> dict[str, Any]:
    """Return the options with those that the model determines."""
    if keeps_rotation:
        return {**options, **integration.keep_rotation_options(model)}
    config = encoding_config(name, **options)
    own = config.positions == "index" and config.rotary_fraction == 1
    if config.frequencies == "axial" and own:
        return {**integration.default_options(model), **options}
    return options


def _preset_and_options(
    config: EncodingConfig, options: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the nearest preset of a configuration and the options in which they differ.

    Files name an encoding this way.
    """
    if options:
        raise ValueError(
            f"options {sorted(options)} were given in addition to an EncodingConfig: set them in "
            f"the configuration, or pass the name of a preset"
        )

    def differences(name: str) -> dict[str, Any]:
        preset = PRESETS[name].config
        return {
            field.name: getattr(config, field.name)
            for field in fields(EncodingConfig)
            if getattr(config, field.name) != getattr(preset, field.name)
            and has_effect(config, field.name)
        }

    name = min(PRESETS, key=lambda preset: len(differences(preset)))
    return name, differences(name)


def _refuse(reason: str, *args: Any, **kwargs: Any) -> None:
    """Take the place of a method that would go wrong with an encoding."""
    raise ValueError(reason)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _check_positions(
    model: nn.Module, positions: Any, integration: Integration, state: InstallState | None
) -> None:
    if state is None and not integration.computes_positions:
        raise ValueError(
            f"{type(model).__name__} has no encoding of harope: call harope.install first"
        )
    if state is not None and not integration.computes_positions and not state.uses_positions:
        raise ValueError(
            f"encoding {state.name!r} with options {state.options} uses no positions in this "
            f"model, so positions would have no effect: install it with frequencies of its own, "
            f"such as frequencies='axial'"
        )
    shape = tuple(getattr(positions, "shape", ()))
    if (
        not isinstance(positions, Tensor)
        or len(shape) not in (2, 3)
        or shape[-1] != integration.num_axes
    ):
        raise ValueError(
            f"positions must be a tensor (tokens, {integration.num_axes}) or (batch, tokens, "
            f"{integration.num_axes}) for {integration.title}, got the shape {shape}"
        )

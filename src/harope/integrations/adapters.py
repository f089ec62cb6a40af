"""Encodings that belong to adapters of PEFT.

`LoraConfig(..., modules_to_save=["harope"])` wraps the encoding of every attention: the wrapper has
the installed encoding and a trained copy for each adapter. diffusers switches adapters at the LoRA
layers and leaves such wrappers as they are. `follow_adapters` therefore switches the wrappers, so
that an attention always has the encoding of the LoRA adapter that is active.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harope._utils.classes import is_a
from harope.integrations.base import InstallState
from harope.integrations.forward import Model
from harope.rope import PositionalEncoding

WRAPPER = "peft.utils.other.ModulesToSaveWrapper"
TUNER_LAYER = "peft.tuners.tuners_utils.BaseTunerLayer"


@dataclass(frozen=True)
class EncodingSlot:
    """The place of an encoding in a model."""

    name: str
    """Name of the encoding in files: `blocks.0.attn.harope`, or `embedding`."""
    parent: Model
    """The module with the encoding."""
    attribute: str = "harope"
    """Its attribute that is the encoding, or PEFT's wrapper around it."""

    @property
    def module(self) -> Any:
        """The encoding, or PEFT's wrapper around it."""
        return getattr(self.parent, self.attribute)

    @property
    def wrapper(self) -> Any:
        """PEFT's wrapper around the encoding, or None."""
        return self.module if is_a(self.module, WRAPPER) else None

    def encoding(self, adapter: str | None = None) -> PositionalEncoding:
        """Return the encoding of an adapter.

        Args:
            adapter: Name of the adapter; None for the encoding that is active.

        Raises:
            ValueError: The adapter has no encoding of its own, but others have.
        """
        wrapper = self.wrapper
        if wrapper is None or adapter is None:
            return self.module.unwrapped
        if adapter not in wrapper.modules_to_save:
            raise ValueError(
                f"adapter {adapter!r} has no encoding of its own, only "
                f"{sorted(wrapper.modules_to_save)} have: save its LoRA alone by the model's "
                f"save_lora_adapter"
            )
        return wrapper.modules_to_save[adapter]


def encoding_slots(state: InstallState, model: Model) -> list[EncodingSlot]:
    """List the places of a model's encodings, without layers that were pruned since.

    Args:
        state: The state of the installation.
        model: The model.
    """
    present = set(model.modules())
    found = [
        EncodingSlot(f"{layer.name}.harope", layer.attention)
        for layer in state.layers
        if layer.attention in present
    ]
    if state.adds_embedding:
        found.append(EncodingSlot("embedding", *state.integration.embedding_slot(model)))
    return found


@dataclass(eq=False)
class AdapterHook:
    """Forward pre-hook of a model: its encodings are those of the active adapter."""

    state: InstallState

    def __call__(self, model: Model, args: tuple[Any, ...]) -> None:
        modules = [layer.attention.harope for layer in self.state.layers]
        if self.state.adds_embedding:
            modules.append(self.state.integration.embedder(model).harope)
        wrappers = [module for module in modules if hasattr(module, "modules_to_save")]
        if not wrappers:
            return
        if torch.compiler.is_compiling():
            _check_followed(model, self.state, wrappers[0])
        else:
            follow_adapters(model, self.state)


def _check_followed(model: Model, state: InstallState, wrapper: Any) -> None:
    """Raise ValueError if encodings are to be switched: compiled code cannot search the model."""
    changed = len(wrapper.modules_to_save) > 1
    if state.followed is not None:
        tuner, active, disabled = state.followed
        changed = tuner.active_adapters != active or tuner.disable_adapters != disabled
    if changed or not getattr(model, "peft_config", None):
        raise ValueError(
            "the adapters were switched or unloaded, and the encodings cannot follow them in a "
            "compiled model: call harope.get_encodings(model) before it, so that they do"
        )


def follow_adapters(model: Model, state: InstallState) -> None:
    """Make the encodings those of the active LoRA adapter.

    The installed encoding is active if no active adapter has one of its own, or if the adapters
    are disabled. Encodings of adapters that were deleted are dropped.

    Args:
        model: The model.
        state: The state of its installation.

    Raises:
        ValueError: Two active adapters have encodings, or the LoRA layers were unloaded but not the
            encodings.
    """
    wrappers = [slot.wrapper for slot in encoding_slots(state, model) if slot.wrapper is not None]
    if not wrappers:
        return
    tuners: list[Any] = [module for module in model.modules() if is_a(module, TUNER_LAYER)]
    known = getattr(model, "peft_config", None) or {}
    if not tuners and known:
        return  # Adapters without LoRA layers: PEFT alone switches them.
    if not tuners:
        raise ValueError(
            f"the LoRA layers of the adapters {sorted(wrappers[0].modules_to_save)} were unloaded, "
            f"but their encodings are still in the model: call "
            f"harope.integrations.unload_adapters(model), or unload_adapters(model, keep=NAME) if "
            f"the LoRA of NAME was fused into the weights"
        )
    first = tuners[0]
    state.followed = first, list(first.active_adapters), first.disable_adapters
    enabled = [tuner for tuner in tuners if not tuner.disable_adapters]
    active = dict.fromkeys(name for tuner in enabled for name in tuner.active_adapters)
    for wrapper in wrappers:
        own = [name for name in active if name in wrapper.modules_to_save]
        if len(own) > 1:
            raise ValueError(
                f"the active adapters {own} each have an encoding, and an attention can only have "
                f"one: activate one of them, such as by model.set_adapters([{own[0]!r}])"
            )
        if list(wrapper.active_adapters) != own:
            wrapper.set_adapter(own)
            for name in own:
                trains = any(part.requires_grad for t in tuners for part in _parameters(t, name))
                wrapper.modules_to_save[name].requires_grad_(trains)
        for name in [name for name in wrapper.modules_to_save if name not in known]:
            _drop(wrapper, name)


def add_adapter_encoding(slot: EncodingSlot, adapter: str) -> PositionalEncoding:
    """Give an adapter an encoding of its own, a copy of the installed one.

    Args:
        slot: Place of the encoding.
        adapter: Name of the adapter.

    Returns:
        The copy.
    """
    from peft.utils.other import ModulesToSaveWrapper

    if slot.wrapper is None:
        setattr(slot.parent, slot.attribute, ModulesToSaveWrapper(slot.module, adapter))
    else:
        _drop(slot.wrapper, adapter)
        slot.wrapper.update(adapter)
    return slot.encoding(adapter)


def unwrap(slot: EncodingSlot, keep: str | None) -> None:
    """Replace PEFT's wrapper by an encoding.

    Args:
        slot: Place of the encoding.
        keep: Name of the adapter whose encoding stays; None for the installed one.
    """
    wrapper = slot.wrapper
    if wrapper is not None:
        kept = wrapper.original_module if keep is None else wrapper.modules_to_save[keep]
        setattr(slot.parent, slot.attribute, kept.requires_grad_(True))


def _drop(wrapper: Any, adapter: str) -> None:
    """Delete an adapter's encoding, if there is one."""
    if adapter in wrapper.modules_to_save:
        if adapter in wrapper.active_adapters:
            wrapper.set_adapter([])
        wrapper.delete_adapter(adapter, list(wrapper.active_adapters))


def _parameters(tuner: Any, adapter: str) -> list[Tensor]:
    """List the parameters that an adapter has at a LoRA layer."""
    found: list[Tensor] = []
    for name in tuner.adapter_layer_names:
        part = getattr(tuner, name, {})
        if adapter in part:
            part = part[adapter]
            found += part.parameters() if isinstance(part, nn.Module) else [part]
    return found

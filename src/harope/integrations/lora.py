"""LoRA together with an encoding, saved as two files that other programs can read.

    pytorch_lora_weights.safetensors    LoRA alone: any diffusers pipeline loads it
    harope.safetensors                  the encoding, its configuration inside

PEFT trains both with `LoraConfig(..., modules_to_save=["harope"])` and saves them as one set of
tensors. Pipelines silently drop unknown tensors of such a set, so it is not written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from harope._utils.sharding import full_tensor, is_sharded
from harope.integrations.adapters import EncodingSlot, encoding_slots, follow_adapters, unwrap
from harope.integrations.base import get_install_state
from harope.integrations.forward import Model
from harope.integrations.serialization import load_encoding, read_encoding, write_encoding

LORA_FILE = "pytorch_lora_weights.safetensors"


def save_adapters(model: nn.Module, folder: str | Path, *, adapter: str = "default") -> Path:
    """Write LoRA and encoding of a FLUX or SD3 transformer into a folder.

    The encoding is the adapter's own, active or not. If PEFT does not train the encoding
    (`modules_to_save`), all adapters share the installed one, and that is written.

    Args:
        model: The transformer. If it is sharded, every process must call this function, and the
            first one writes.
        folder: Folder to write to, created if necessary.
        adapter: Name of the PEFT adapter.

    Returns:
        The folder.

    Raises:
        ValueError: The model has no encoding or no such adapter, or other adapters have an encoding
            but this one does not.
    """
    folder = Path(folder)
    transformer: Model = model
    loader = _loader(transformer)
    configs = getattr(transformer, "peft_config", {})
    if adapter not in configs:
        raise ValueError(
            f"the model has no adapter {adapter!r}, only {sorted(configs)}: call add_adapter first"
        )
    write_encoding(model, folder, adapter)
    from peft.utils import get_peft_model_state_dict

    state = get_peft_model_state_dict(transformer, adapter_name=adapter)
    stored: dict[str, Tensor] = {name: value for name, value in state.items() if "lora" in name}
    lora = {name: full_tensor(value) for name, value in stored.items()}
    if any(map(is_sharded, stored.values())) and torch.distributed.get_rank() != 0:
        return folder
    loader.save_lora_weights(
        folder,
        transformer_lora_layers=lora,
        transformer_lora_adapter_metadata=_lora_metadata(configs[adapter]),
    )
    return folder


def load_adapters(target: Any, folder: str | Path, *, adapter: str = "default") -> Any:
    """Read both files into a pipeline of FLUX or SD3, or into its transformer.

    The encoding is installed if necessary. It then belongs to the adapter: the attentions have it
    while the adapter is active. Several folders can be loaded under several names, if their
    encodings differ in nothing but weights. A folder may contain only one of the two files; an
    encoding without LoRA becomes the installed one.

    Args:
        target: The pipeline or the transformer.
        folder: What `save_adapters` wrote.
        adapter: Name of the PEFT adapter.

    Returns:
        The target.

    Raises:
        ValueError: The folder contains neither file, the LoRA file contains weights of an encoding,
            which a pipeline would drop, there is an adapter of that name, or the encoding does not
            fit the model or the installed encoding. The model is then what it was.
    """
    folder = Path(folder)
    lora, encoding = folder / LORA_FILE, folder / "harope.safetensors"
    if not lora.is_file() and not encoding.is_file():
        raise ValueError(f"{folder} holds neither {LORA_FILE} nor {encoding.name}")
    if lora.is_file():
        check_lora(lora)
    transformer = getattr(target, "transformer", target)
    if not lora.is_file():
        load_encoding(transformer, encoding)
        return target
    before = list(getattr(transformer, "peft_config", None) or {})
    if adapter in before:
        raise ValueError(
            f"the model has an adapter {adapter!r} already: pass another name as adapter=..., or "
            f"call delete_adapters({adapter!r}) first"
        )
    active = transformer.active_adapters() if before else []
    if transformer is target:
        transformer.load_lora_adapter(
            folder, prefix="transformer", weight_name=LORA_FILE, adapter_name=adapter
        )
    else:
        target.load_lora_weights(folder, weight_name=LORA_FILE, adapter_name=adapter)
    try:
        if encoding.is_file():
            read_encoding(transformer, encoding, adapter)
    except ValueError:
        if before:
            transformer.set_adapter(active)
            transformer.delete_adapters(adapter)
        else:
            transformer.unload_lora()
        raise
    _follow(transformer)
    return target


def unload_adapters(target: Any, *, keep: str | None = None) -> Any:
    """Remove all LoRA layers and the encodings that belong to adapters.

    diffusers' own `unload_lora` and `unload_lora_weights` leave these encodings in the model.

    Args:
        target: A pipeline of FLUX or SD3, or its transformer.
        keep: Name of an adapter whose encoding becomes the installed one, for a LoRA that was fused
            into the weights (`fuse_lora`). By default the encoding is again what was installed.

    Returns:
        The target.

    Raises:
        ValueError: The adapter to keep has no encoding.
    """
    transformer = getattr(target, "transformer", target)
    slots = [slot for slot in _slots(transformer) if slot.wrapper is not None]
    if keep is not None and not all(keep in slot.wrapper.modules_to_save for slot in slots):
        raise ValueError(f"adapter {keep!r} has no encoding to keep: leave keep out")
    for slot in slots:
        unwrap(slot, keep)
    if getattr(transformer, "peft_config", None):
        transformer.unload_lora() if transformer is target else target.unload_lora_weights()
    return target


def check_lora(path: str | Path) -> None:
    """Check that a LoRA file does not contain weights of an encoding.

    Loaders drop such weights silently if the encoding is not installed, and often if it is.

    Args:
        path: A safetensors file.

    Raises:
        ValueError: It does contain such weights.
    """
    with safe_open(path, framework="pt") as file:
        found = [name for name in file.keys() if ".harope." in name]  # noqa: SIM118 (not a dict)
    if found:
        raise ValueError(
            f"{path} holds {len(found)} weights of an encoding ({found[0]}, ...), which loading it "
            f"as LoRA would drop: write LoRA and encoding apart by "
            f"harope.integrations.save_adapters"
        )


@contextmanager
def adapters_disabled(model: nn.Module) -> Iterator[None]:
    """Disable LoRA and the encodings trained together with it, inside a `with` block.

    Args:
        model: The transformer. Its forwards use the installed encoding meanwhile.
    """
    transformer: Model = model
    transformer.disable_adapters()
    try:
        yield
    finally:
        transformer.enable_adapters()
        _follow(transformer)


def _slots(transformer: Model) -> list[EncodingSlot]:
    state = get_install_state(transformer)
    return [] if state is None else encoding_slots(state, transformer)


def _follow(transformer: Model) -> None:
    state = get_install_state(transformer)
    if state is not None:
        follow_adapters(transformer, state)


def _loader(transformer: Model) -> Any:
    """Return diffusers' mixin that writes LoRA for the transformer's pipelines."""
    from diffusers.loaders import FluxLoraLoaderMixin, SD3LoraLoaderMixin

    loaders = {
        "FluxTransformer2DModel": FluxLoraLoaderMixin,
        "SD3Transformer2DModel": SD3LoraLoaderMixin,
    }
    # FSDP derives classes of its own.
    for base in type(transformer).__mro__:
        if base.__name__ in loaders:
            return loaders[base.__name__]
    raise ValueError(
        f"{type(transformer).__name__} has no pipeline that loads LoRA: use {', '.join(loaders)}"
    )


def _lora_metadata(config: Any) -> dict[str, Any]:
    """Return PEFT's configuration (ranks, scales) without the encoding."""
    values = {k: sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
    return {**values, "modules_to_save": None}

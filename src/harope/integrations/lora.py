"""LoRA beside an encoding, saved as two files that other programs can read.

    pytorch_lora_weights.safetensors    LoRA alone: any diffusers pipeline loads it
    harope.safetensors                  the encoding, its configuration inside

PEFT trains both with `LoraConfig(..., modules_to_save=["harope"])` and saves them as one set of
tensors. Pipelines silently drop unknown tensors of such a set, so it is not written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from harope.integrations.base import get_install_state
from harope.integrations.forward import Model
from harope.integrations.serialization import load_encoding, save_encoding

LORA_FILE = "pytorch_lora_weights.safetensors"


def save_adapters(model: nn.Module, folder: str | Path, *, adapter: str = "default") -> Path:
    """Write LoRA and encoding of a FLUX or SD3 transformer into a folder.

    Args:
        model: the transformer.
        folder: is created if necessary.
        adapter: name of the PEFT adapter.

    Returns:
        The folder.

    Raises:
        ValueError: the model has no encoding or no such adapter.
    """
    folder = Path(folder)
    transformer: Model = model
    loader = _loader(transformer)
    configs = getattr(transformer, "peft_config", {})
    if adapter not in configs:
        raise ValueError(
            f"the model has no adapter {adapter!r}, only {sorted(configs)}: call add_adapter first"
        )
    save_encoding(model, folder)
    from peft.utils import get_peft_model_state_dict

    state = get_peft_model_state_dict(transformer, adapter_name=adapter)
    lora: dict[str, Tensor] = {name: value for name, value in state.items() if "lora" in name}
    loader.save_lora_weights(
        folder,
        transformer_lora_layers=lora,
        transformer_lora_adapter_metadata=_lora_metadata(configs[adapter]),
    )
    return folder


def load_adapters(target: Any, folder: str | Path, *, adapter: str = "default") -> Any:
    """Read both files into a pipeline of FLUX or SD3, or into its transformer.

    The encoding is installed if necessary. A folder may contain only one of the two files.

    Args:
        target: the pipeline or the transformer.
        folder: what `save_adapters` wrote.
        adapter: name of the PEFT adapter.

    Returns:
        The target.

    Raises:
        ValueError: the folder contains neither file, or the LoRA file contains weights of an
            encoding, which a pipeline would drop.
    """
    folder = Path(folder)
    lora, encoding = folder / LORA_FILE, folder / "harope.safetensors"
    if not lora.is_file() and not encoding.is_file():
        raise ValueError(f"{folder} holds neither {LORA_FILE} nor {encoding.name}")
    if lora.is_file():
        check_lora(lora)
    transformer = getattr(target, "transformer", target)
    if encoding.is_file():
        load_encoding(transformer, encoding)
    if lora.is_file() and transformer is target:
        transformer.load_lora_adapter(
            folder, prefix="transformer", weight_name=LORA_FILE, adapter_name=adapter
        )
    elif lora.is_file():
        target.load_lora_weights(folder, weight_name=LORA_FILE, adapter_name=adapter)
    return target


def check_lora(path: str | Path) -> None:
    """Raise ValueError if a LoRA file contains weights of an encoding.

    Loaders drop such weights silently if the encoding is not installed, and often if it is.
    """
    with safe_open(path, framework="pt") as file:
        found = [name for name in file.keys() if ".harope." in name]  # noqa: SIM118
    if found:
        raise ValueError(
            f"{path} holds {len(found)} weights of an encoding ({found[0]}, ...), which loading it "
            f"as LoRA would drop: write LoRA and encoding apart by "
            f"harope.integrations.save_adapters"
        )


@contextmanager
def adapters_disabled(model: nn.Module) -> Iterator[None]:
    """Disable LoRA and the encoding trained beside it, inside a `with` block.

    diffusers' own `disable_adapters` leaves `modules_to_save`, and so the encoding, on.
    """
    transformer: Model = model
    wrappers = [layer.attention.harope for layer in _layers(model)]
    transformer.disable_adapters()
    for wrapper in wrappers:
        if hasattr(wrapper, "enable_adapters"):
            wrapper.enable_adapters(False)
    try:
        yield
    finally:
        transformer.enable_adapters()
        for wrapper in wrappers:
            if hasattr(wrapper, "enable_adapters"):
                wrapper.enable_adapters(True)


def _layers(model: nn.Module) -> list[Any]:
    state = get_install_state(model)
    return [] if state is None else state.layers


def _loader(transformer: Model) -> Any:
    """Return diffusers' mixin that writes LoRA for the transformer's pipelines."""
    from diffusers.loaders import FluxLoraLoaderMixin, SD3LoraLoaderMixin

    name = type(transformer).__name__
    loaders = {
        "FluxTransformer2DModel": FluxLoraLoaderMixin,
        "SD3Transformer2DModel": SD3LoraLoaderMixin,
    }
    if name not in loaders:
        raise ValueError(f"{name} has no pipeline that loads LoRA: use {', '.join(loaders)}")
    return loaders[name]


def _lora_metadata(config: Any) -> dict[str, Any]:
    """Return PEFT's configuration (ranks, scales) without the encoding."""
    values = {k: sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
    return {**values, "modules_to_save": None}

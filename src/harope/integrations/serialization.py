"""Encodings on disk: one safetensors file with the weights and the configuration."""

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from harope._utils.atomic import atomic_path
from harope._utils.hub import download_files
from harope._utils.json_files import parse_json
from harope._utils.sharding import full_tensor, is_sharded, shard_like
from harope.integrations.adapters import add_adapter_encoding, encoding_slots, follow_adapters
from harope.integrations.api import ModelChangedWarning, install, remove
from harope.integrations.base import InstallState, get_install_state
from harope.integrations.registry import find_integration
from harope.rope import PositionalEncoding
from harope.rope.presets import options_from_file, options_to_store

FILE = "harope.safetensors"
METADATA = "harope"
FORMAT = 1
_FIELDS = {
    "format": int,
    "model": str,
    "name": str,
    "options": dict,
    "keep_absolute": bool,
    "layers": dict,
}
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def save_encoding(model: nn.Module, path: str | Path) -> Path:
    """Write the installed encoding, weights and configuration, to one file.

    If the parameters are sharded (FSDP2), all processes have to call it; the first one writes.

    Args:
        model: A model that `install` was called on; with PEFT, the active adapter's encoding is
            written.
        path: A file `*.safetensors`, or a folder, which gets `harope.safetensors`.

    Returns:
        The file.

    Raises:
        ValueError: No encoding is installed, it was folded, or its parameters are offloaded.
    """
    return write_encoding(model, path)


def write_encoding(model: nn.Module, path: str | Path, adapter: str | None = None) -> Path:
    """Write the encoding of an adapter, as `save_encoding` writes the active one.

    Args:
        model: A model that `install` was called on.
        path: A file `*.safetensors`, or a folder.
        adapter: Name of the PEFT adapter; None for the active encoding.

    Returns:
        The file.

    Raises:
        ValueError: As in `save_encoding`, or the adapter has no encoding of its own while others
            have.
    """
    state = _installed(model)
    if state.folded:
        raise ValueError(
            "the encoding was folded into the model's weights: save it before harope.fold"
        )
    follow_adapters(model, state)
    values = _tensors(_encodings(model, adapter))
    sharded = any(map(is_sharded, values.values()))
    tensors = {name: _complete_tensor(name, value) for name, value in values.items()}
    path = _file(Path(path))
    if sharded and torch.distributed.get_rank() != 0:
        return path
    described = {**_description(model), "kept_rotation": _kept_rotation(model)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA: json.dumps(described)})
    return path


def load_encoding(
    model: nn.Module, path_or_hub_id: str | Path, *, revision: str | None = None
) -> nn.Module:
    """Read an encoding into a model, in place, and install it if necessary.

    Args:
        model: A model like the one that the encoding was saved from; with PEFT, the active
            adapter's encoding is replaced.
        path_or_hub_id: The file, its folder, or a repository of the Hugging Face Hub that contains
            `harope.safetensors`, such as `user/model`.
        revision: Branch, tag or commit of the repository.

    Returns:
        The same model.

    Raises:
        ValueError: The file is damaged or for another model or encoding, tensors are missing,
            unknown, of another shape, not floating-point or not finite, or the model's parameters
            are offloaded. The model is then left unchanged. The repository cannot be downloaded.
    """
    read_encoding(model, _find(path_or_hub_id, revision))
    return model


def read_encoding(model: nn.Module, path: Path, adapter: str | None = None) -> None:
    """Read an encoding as that of an adapter, as `load_encoding` reads the active one.

    Args:
        model: A model like the one that the encoding was saved from.
        path: The file.
        adapter: Name of the PEFT adapter that gets an encoding of its own; None for the active
            encoding.

    Raises:
        ValueError: As in `load_encoding`.
    """
    described, tensors = _read(path)
    _check_model(model, described, path)
    fresh = get_install_state(model) is None
    if fresh:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModelChangedWarning)
            install(
                model,
                described["name"],
                keep_absolute=described["keep_absolute"],
                **described["options"],
            )
    state = _installed(model)
    try:
        if adapter is None:
            follow_adapters(model, state)
        _check_same(_description(model), described, path)
        _check_tensors(_tensors(_encodings(model)), tensors, path)
    except ValueError:
        if fresh:
            remove(model)
        raise
    for slot in encoding_slots(state, model):
        encoding = slot.encoding() if adapter is None else add_adapter_encoding(slot, adapter)
        prefix = f"{slot.name}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        encoding.load_state_dict(shard_like(own, encoding.state_dict()))


def read_description(path: str | Path) -> dict[str, Any]:
    """Read what an encoding's file says about it, without its weights.

    Args:
        path: The file, or its folder.

    Returns:
        Encoding (`name`, `options`), family of the model (`model`), whether its absolute embedding
        stays (`keep_absolute`), and its `layers` with heads and channels.

    Raises:
        ValueError: The file is missing or damaged, or is no encoding's.
    """
    return _read(_file(Path(path)))[0]


def _find(path_or_hub_id: str | Path, revision: str | None) -> Path:
    path = _file(Path(path_or_hub_id))
    text = str(path_or_hub_id)
    if path.exists() or text.endswith(".safetensors") or not _HUB_ID.fullmatch(text):
        return path
    return download_files(text, [FILE], revision=revision) / FILE


def _file(path: Path) -> Path:
    return path if path.suffix == ".safetensors" else path / FILE


def _installed(model: nn.Module) -> InstallState:
    state = get_install_state(model)
    if state is None:
        raise ValueError(
            f"{type(model).__name__} holds no encoding of harope's: call harope.install first"
        )
    return state


def _encodings(model: nn.Module, adapter: str | None = None) -> dict[str, PositionalEncoding]:
    """Return the encodings by their path in the model, without names of adapters."""
    slots = encoding_slots(_installed(model), model)
    return {slot.name: slot.encoding(adapter) for slot in slots}


def _tensors(encodings: dict[str, PositionalEncoding]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, encoding in encodings.items()
        for key, value in encoding.state_dict().items()
    }


def _complete_tensor(name: str, value: Tensor) -> Tensor:
    """Return a tensor on the CPU, gathered from all processes if it is sharded."""
    if value.is_meta:
        raise ValueError(
            f"{name} is offloaded (on the meta device): save the encoding before offloading the "
            f"model, or remove accelerate's hooks first"
        )
    return full_tensor(value).detach().cpu().contiguous()


def _description(model: nn.Module) -> dict[str, Any]:
    state = _installed(model)
    names = {slot.name for slot in encoding_slots(state, model)}
    described = {
        "format": FORMAT,
        "model": state.integration.title,
        "name": state.name,
        "options": options_to_store(state.name, state.options),
        "keep_absolute": state.keep_absolute,
        "layers": {
            layer.name: [layer.num_heads, layer.head_dim]
            for layer in state.layers
            if f"{layer.name}.harope" in names
        },
    }
    # In JSON's types, for comparison with what is read.
    return json.loads(json.dumps(described))


def _kept_rotation(model: nn.Module) -> dict[str, Any]:
    """Return the model's own rotation as options of axial frequencies, if it is kept."""
    state = _installed(model)
    left = state.options.get("frequencies") == "host"
    return state.integration.default_options(model) if left else {}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise ValueError(f"{path} is not a file: pass what harope.save_encoding wrote")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if text is None:
        raise ValueError(f"{path} holds no encoding: pass what harope.save_encoding wrote")
    described = parse_json(text, f"the description in {path}")
    _check_description(described, path)
    _check_values(tensors, path)
    name = described["name"]
    options = options_to_store(name, options_from_file(name, described["options"]))
    return described | {"options": options}, tensors


def _check_description(described: Any, path: Path) -> None:
    """Raise ValueError if a description does not have the fields that `_description` writes."""
    if not isinstance(described, dict):
        raise ValueError(f"{path} has the description {described!r:.80}: expected a JSON object")
    for field, kind in _FIELDS.items():
        if type(described.get(field)) is not kind:
            value = described.get(field, "nothing")
            raise ValueError(
                f"{path} has {value!r:.80} as {field!r} of its description: expected a "
                f"{kind.__name__}; pass what harope.save_encoding wrote"
            )
    if described["format"] != FORMAT:
        raise ValueError(
            f"{path} has the format {described['format']}, but this version of harope reads "
            f"{FORMAT}: update harope"
        )
    for option, value in described["options"].items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{path} has {value} as option {option!r}: expected a finite number")
    for layer, sizes in described["layers"].items():
        if not isinstance(sizes, list) or [type(size) for size in sizes] != [int, int]:
            raise ValueError(
                f"{path} has {sizes!r:.80} as heads and channels of {layer!r}: expected two "
                f"integers"
            )


def _check_values(tensors: dict[str, Tensor], path: Path) -> None:
    for name, value in tensors.items():
        if value.dtype not in _DTYPES:
            raise ValueError(
                f"{path} does not fit: {name} is of {value.dtype}, expected a floating-point dtype"
            )
        if not value.isfinite().all():
            raise ValueError(
                f"{path} has values of {name} that are not finite: the training diverged, or the "
                f"file is damaged"
            )


def _check_model(model: nn.Module, described: dict[str, Any], path: Path) -> None:
    integration = find_integration(model)
    if described["model"] != integration.title:
        raise ValueError(
            f"{path} was made for {described['model']}, but the model is {integration.title}: "
            f"load it into a model of its kind"
        )
    found = {layer.name: [layer.num_heads, layer.head_dim] for layer in integration.layers(model)}
    for name, sizes in described["layers"].items():
        if name not in found:
            raise ValueError(f"{path} has an encoding for {name}, which the model does not have")
        if found[name] != sizes:
            raise ValueError(
                f"{path} has {sizes[0]} heads of {sizes[1]} channels at {name}, but the model has "
                f"{found[name][0]} of {found[name][1]}"
            )
    lacking = sorted(set(found) - set(described["layers"]))
    if described["layers"] and lacking:
        raise ValueError(f"{path} has no encoding for {lacking[0]} of the model")


def _check_same(own: dict[str, Any], described: dict[str, Any], path: Path) -> None:
    for field in ("name", "options", "keep_absolute"):
        if own[field] != described[field]:
            raise ValueError(
                f"{path} holds an encoding with {field} {described[field]!r}, but the installed "
                f"one has {own[field]!r}: call harope.remove(model) first, or install the same"
            )


def _check_tensors(own: dict[str, Tensor], found: dict[str, Tensor], path: Path) -> None:
    missing, extra = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    if missing or extra:
        raise ValueError(f"{path} does not fit: missing {missing[:4]}, unknown {extra[:4]}")
    for name, value in own.items():
        if value.is_meta:
            raise ValueError(
                f"{name} is offloaded (on the meta device): load the encoding before offloading"
            )
        if found[name].shape != value.shape:
            raise ValueError(
                f"{path} does not fit: {name} has the shape {tuple(found[name].shape)}, "
                f"expected {tuple(value.shape)}"
            )

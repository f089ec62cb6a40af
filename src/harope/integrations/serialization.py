"""An encoding on disk, apart from its model: one safetensors file with its configuration inside."""

import json
import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from harope.integrations.api import ModelChangedWarning, install
from harope.integrations.registry import find_integration
from harope.integrations.state import InstallState, get_install_state
from harope.rope import PositionalEncoding
from harope.rope.presets import options_from_file, options_to_store

FILE = "harope.safetensors"
METADATA = "harope"
FORMAT = 1


def save_encoding(model: nn.Module, path: str | Path) -> Path:
    """Write the installed encoding, weights and configuration; returns the file.

    Args:
        model: one that `install` was called on; of PEFT adapters, the active one is written.
        path: a file `*.safetensors`, or a folder, which gets `harope.safetensors`.

    Raises ValueError where nothing is installed, or it was folded.
    """
    state = _installed(model)
    if state.folded:
        raise ValueError(
            "the encoding was folded into the model's weights: save it before harope.fold"
        )
    path = _file(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in _state(model).items()}
    described = {**_description(state), "kept_rotation": _kept_rotation(model)}
    save_file(tensors, path, metadata={METADATA: json.dumps(described)})
    return path


def load_encoding(model: nn.Module, path: str | Path) -> nn.Module:
    """Read an encoding into a model, in place, installing it where that was not done yet.

    Raises ValueError where the file is damaged, was made for another model or encoding, or lacks,
    adds or misshapes a tensor; the model is then left as it was.
    """
    path = _file(Path(path))
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
    try:
        _check_same(_description(_installed(model)), described, path)
        _check_tensors(_state(model), tensors, path)
    except ValueError:
        if fresh:
            from harope.integrations.api import remove

            remove(model)
        raise
    for name, encoding in _encodings(model).items():
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        encoding.load_state_dict(own)
    return model


def read_description(path: str | Path) -> dict[str, Any]:
    """The configuration inside a file: encoding, options, the kind of model, its layers."""
    return _read(_file(Path(path)))[0]


def _file(path: Path) -> Path:
    return path if path.suffix == ".safetensors" else path / FILE


def _installed(model: nn.Module) -> InstallState:
    state = get_install_state(model)
    if state is None:
        raise ValueError(
            f"{type(model).__name__} holds no encoding of harope's: call harope.install first"
        )
    return state


def _encodings(model: nn.Module) -> dict[str, PositionalEncoding]:
    """Encodings by their path in the model, without the names of adapters."""
    state = _installed(model)
    found = {f"{layer.name}.harope": layer.attention.harope.itself for layer in state.layers}
    if state.adds_embedding:
        found["embedding"] = state.integration.embedding(model)
    return found


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, encoding in _encodings(model).items()
        for key, value in encoding.state_dict().items()
    }


def _description(state: InstallState) -> dict[str, Any]:
    described = {
        "format": FORMAT,
        "model": state.integration.title,
        "name": state.name,
        "options": options_to_store(state.name, state.options),
        "keep_absolute": state.keep_absolute,
        "layers": {layer.name: [layer.num_heads, layer.head_dim] for layer in state.layers},
    }
    # As JSON gives it back.
    return json.loads(json.dumps(described))


def _kept_rotation(model: nn.Module) -> dict[str, Any]:
    """How the model itself rotates, as options of axial frequencies, where that was left to it."""
    state = _installed(model)
    left = state.options.get("frequencies") == "host"
    return state.integration.default_options(model) if left else {}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise ValueError(f"{path} is not a file: pass what harope.save_encoding wrote")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if text is None:
        raise ValueError(f"{path} holds no encoding: pass what harope.save_encoding wrote")
    described = json.loads(text)
    name = described["name"]
    options = options_to_store(name, options_from_file(name, described["options"]))
    return described | {"options": options}, tensors


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
        if found[name].shape != value.shape:
            raise ValueError(
                f"{path} does not fit: {name} has the shape {tuple(found[name].shape)}, "
                f"expected {tuple(value.shape)}"
            )

"""Folders of models in the hub's layout, opened without the hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harope._utils.json_files import load_json
from harope.lab.evals.local_models import ModelInfo
from harope.lab.metrics.features import fingerprint


def model_type(folder: Path, supported: Mapping[str, str], option: str) -> str:
    """The type that the folder's `config.json` states.

    `supported` says in words what each type is. Raises ValueError for a folder without
    configuration, and for another type.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{option} {folder} is no folder of a model: it lacks config.json; download the "
            f"model there first"
        )
    try:
        kind = load_json(path)["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} states no model_type ({error}): it is damaged") from None
    if kind not in supported:
        names = ", ".join(f"{name} ({words})" for name, words in supported.items())
        raise ValueError(f"{option} {folder} holds a model of type {kind!r}, but takes {names}")
    return kind


def load_model(loader: Any, folder: Path, option: str) -> Any:
    """The model in local files, for inference.

    Raises ValueError naming the folder where they are damaged, or would leave weights at random.
    """
    model, info = load_component(loader, folder, option, output_loading_info=True)
    parameters = {name for name, _ in model.named_parameters()}
    missing = sorted(parameters & set(info["missing_keys"]))
    if missing:
        raise ValueError(
            f"{option} {folder} lacks {len(missing)} weights of {type(model).__name__}, first "
            f"{missing[0]}: download it again"
        )
    return model.eval().requires_grad_(False)


def load_component(loader: Any, folder: Path, option: str, **options: Any) -> Any:
    """What `loader.from_pretrained` makes of local files: a model, or what prepares its input.

    Raises ValueError naming the folder where they are damaged or lack something.
    """
    try:
        return loader.from_pretrained(str(folder), local_files_only=True, **options)
    # transformers raises OSError, ValueError, KeyError, SafetensorError and more.
    except Exception as error:
        raise ValueError(f"{option} {folder} cannot be loaded: {error}") from error


def used(model: Any, folder: Path, stands_for: str, prompt: str | None = None) -> ModelInfo:
    """How a loaded model is named beside scores."""
    name = folder.resolve().name
    return ModelInfo(name, type(model).__name__, fingerprint(model), stands_for, prompt)

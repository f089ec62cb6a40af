"""Hugging Face models that score a benchmark, loaded from local folders without the hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harope._utils.digests import weights_digest
from harope._utils.json_files import load_json, shorten


@dataclass(frozen=True)
class ModelInfo:
    """Identity of a network that takes part in a score; every table of scores prints it."""

    folder: str
    """Name of its folder."""
    kind: str
    """Class name of the model."""
    weights: str
    """Digest of the weights."""
    stands_for: str
    """The network that the official benchmark uses instead."""
    prompt: str | None = None
    """Instruction appended to every question; None if there is none."""

    def __str__(self) -> str:
        return f"{self.folder} ({self.kind}, weights {self.weights})"


def read_model_type(folder: Path, supported: Mapping[str, str], option: str) -> str:
    """Read the model type from a folder's `config.json`.

    Args:
        folder: Model in the layout of the Hugging Face hub.
        supported: Description of each supported type, for the error message.
        option: Command-line option that named the folder, for the error message.

    Returns:
        The model type, one of `supported`.

    Raises:
        ValueError: If the folder has no valid configuration, or the type is not supported.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{option} {folder} is not the folder of a model: it has no config.json; download the "
            f"model there first"
        )
    try:
        kind = load_json(path)["model_type"]
        if not isinstance(kind, str):
            raise TypeError(f"it is {shorten(kind)}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} states no model_type ({error}): download it again") from None
    if kind not in supported:
        names = ", ".join(f"{name} ({words})" for name, words in supported.items())
        raise ValueError(f"{option} {folder} holds a model of type {kind!r}, but takes {names}")
    return kind


def load_model(loader: Any, folder: Path, option: str) -> Any:
    """Load a model for inference.

    Args:
        loader: Class of transformers with `from_pretrained`.
        folder: Local folder of the model.
        option: Command-line option that named the folder, for the error message.

    Returns:
        The model in eval mode, without gradients.

    Raises:
        ValueError: If the files are damaged, or weights are missing, which transformers would leave
            at random values.
    """
    model, info = load_component(loader, folder, option, output_loading_info=True)
    parameters = {name for name, _ in model.named_parameters()}
    missing = sorted(parameters & set(info["missing_keys"]))
    if missing:
        raise ValueError(
            f"{option} {folder} does not contain {len(missing)} weights of {type(model).__name__}, "
            f"first {missing[0]}: download it again"
        )
    return model.eval().requires_grad_(False)


def load_component(loader: Any, folder: Path, option: str, **options: Any) -> Any:
    """Load a model, processor or configuration with `from_pretrained`, from local files only.

    Args:
        loader: Class of transformers with `from_pretrained`.
        folder: Local folder of the model.
        option: Command-line option that named the folder, for the error message.
        options: Further arguments of `from_pretrained`.

    Returns:
        What `from_pretrained` returns.

    Raises:
        ValueError: If the files are damaged or missing.
    """
    try:
        return loader.from_pretrained(str(folder), local_files_only=True, **options)
    # transformers raises OSError, ValueError, KeyError, SafetensorError and more.
    except Exception as error:
        raise ValueError(f"{option} {folder} cannot be loaded: {error}") from error


def describe_model(
    model: Any, folder: Path, stands_for: str, prompt: str | None = None
) -> ModelInfo:
    """Describe a loaded model for tables and stored results.

    Args:
        model: The model.
        folder: Folder it was loaded from.
        stands_for: The network that the official benchmark uses instead.
        prompt: Instruction appended to every question; None if there is none.

    Returns:
        The identity of the model.
    """
    name = folder.resolve().name
    return ModelInfo(name, type(model).__name__, weights_digest(model), stands_for, prompt)

"""Weights on disk: the hub's layout, training checkpoints, and released files of the family."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harope.models.dit.config import DiTConfig
from harope.models.dit.convert import read_dit_checkpoint
from harope.models.dit.model import DiT

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def save_pretrained(model: DiT, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / CONFIG_FILE).write_text(json.dumps(model.config.to_dict(), indent=2) + "\n")


def from_pretrained(folder_or_hub_id: str) -> DiT:
    """A model from a folder, or from the Hugging Face hub. Weights become float32.

    Raises ValueError when there is no such model, or its files are damaged.
    """
    folder = Path(folder_or_hub_id)
    if not folder.is_dir():
        folder = _download(folder_or_hub_id)
    return _read_folder(folder, WEIGHTS_FILE)


def from_checkpoint(path: Path, *, weights: str = "ema", num_heads: int | None = None) -> DiT:
    """A model from a checkpoint folder, a run folder (its last checkpoint) or a `.pt` file.

    Raises ValueError when the path holds no checkpoint, or a damaged or foreign one.
    """
    if weights not in ("ema", "model"):
        raise ValueError(f"weights {weights!r} must be 'ema' or 'model'")
    if path.is_file():
        config, state = read_dit_checkpoint(path, weights=weights, num_heads=num_heads)
        return _build(config, state, path)
    steps = sorted((path / "checkpoints").glob("step-*"))
    folder = steps[-1] if steps else path
    stem = f"{weights}.safetensors"
    if not (folder / stem).exists() and (folder / WEIGHTS_FILE).exists():
        # A model saved for the hub has one set of weights.
        stem = WEIGHTS_FILE
    return _read_folder(folder, stem)


def _read_folder(folder: Path, stem: str) -> DiT:
    if not (folder / CONFIG_FILE).exists() or not (folder / stem).exists():
        raise ValueError(
            f"{folder} holds no checkpoint: expected {CONFIG_FILE} and {stem}, a run folder, "
            f"or a .pt file"
        )
    try:
        config = DiTConfig.from_dict(json.loads((folder / CONFIG_FILE).read_text()))
        state = load_file(folder / stem)
    except (UnicodeDecodeError, json.JSONDecodeError, SafetensorError, TypeError) as error:
        raise ValueError(f"checkpoint {folder} is damaged: {error}") from None
    return _build(config, state, folder)


def _build(config: DiTConfig, state: dict[str, Tensor], path: Path) -> DiT:
    model = DiT(config)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if expected != found:
        raise ValueError(
            f"checkpoint {path} does not fit its model: {_difference(expected, found)}"
        )
    model.load_state_dict(state)
    return model.eval()


def _difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        return f"missing {missing[:4]}, unknown {extra[:4]}"
    name = next(name for name in expected if expected[name] != found[name])
    return f"{name} has the shape {found[name]}, expected {expected[name]}"


def _download(hub_id: str) -> Path:
    mend = "pass a folder, or an id of the Hugging Face hub with huggingface_hub installed"
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(f"{hub_id!r} is not a folder: {mend}") from None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE]))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{hub_id!r} is not a folder and cannot be fetched ({error}): {mend}"
        ) from None

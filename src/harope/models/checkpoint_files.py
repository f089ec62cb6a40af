"""Training checkpoints on disk: finding them in a run folder, and reading a model from one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from harope._utils.checksums import verify_checksums
from harope._utils.json_files import load_json, shorten
from harope.rope.presets import options_from_file

CONFIG_FILE = "config.json"
STATE_FILE = "state.json"
T = TypeVar("T")

SHARDED = ".sharded"
"""Ending of the folders of sharded checkpoints, which only trainings read."""

_NAME = re.compile(r"step-(\d{8})")
_ANY_NAME = re.compile(rf"step-(\d{{8}})({re.escape(SHARDED)})?")


def list_checkpoints(run: Path) -> list[Path]:
    """List the checkpoint folders of a run, oldest first, without sharded ones.

    Args:
        run: Run folder, which may be missing.
    """
    return [path for path in list_all_checkpoints(run) if not is_sharded_checkpoint(path)]


def list_all_checkpoints(run: Path) -> list[Path]:
    """List the checkpoint folders of a run, oldest first, sharded ones too.

    Args:
        run: Run folder, which may be missing.

    Returns:
        The folders. Of the same step, the whole checkpoint comes last.
    """
    folder = run / "checkpoints"
    paths = folder.iterdir() if folder.is_dir() else iter(())
    found = [path for path in paths if _ANY_NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (checkpoint_step(path), not is_sharded_checkpoint(path)))


def is_sharded_checkpoint(folder: Path) -> bool:
    """Tell whether a checkpoint folder is named like a sharded one.

    Args:
        folder: Checkpoint folder.
    """
    return folder.name.endswith(SHARDED)


def newest_checkpoint(path: Path) -> Path:
    """Return the newest checkpoint of a run.

    Args:
        path: Run folder, or anything else that may have weights: a checkpoint, a model, a file.

    Returns:
        Folder of the checkpoint; the path itself if it has no checkpoints.
    """
    return (list_checkpoints(path) or [path])[-1]


def check_not_sharded(path: Path) -> None:
    """Check that a folder without weights is not a sharded checkpoint, or a run of such.

    Args:
        path: Folder in which weights were not found.

    Raises:
        ValueError: If it is, saying how to make a whole checkpoint.
    """
    if is_sharded_checkpoint(path) or list_all_checkpoints(path):
        raise ValueError(
            f"{path} has no whole checkpoint, but a sharded one: `harope gather {path}` makes a "
            f"whole one of it"
        )


def is_training_checkpoint(path: Path) -> bool:
    """Tell the checkpoints that training writes from other folders of models.

    Args:
        path: Folder to look at.

    Returns:
        Whether the folder is named like a checkpoint or has the state of a training.
    """
    named = _NAME.fullmatch(path.resolve().name) is not None
    return path.is_dir() and (named or (path / STATE_FILE).is_file())


def find_weights(path: Path, weights: str) -> Path:
    """Find a weights file in a checkpoint folder, or in the last checkpoint of a run folder.

    Args:
        path: Checkpoint folder or run folder.
        weights: "model" for the raw weights, "ema" for their moving average.

    Returns:
        Path of the safetensors file.

    Raises:
        ValueError: If there is no such file.
    """
    folder = newest_checkpoint(path)
    file = folder / f"{weights}.safetensors"
    if not file.exists():
        check_not_sharded(folder)
        raise ValueError(
            f"{folder} holds no checkpoint: expected {file.name}; pass a checkpoint folder or a "
            f"run folder"
        )
    return file


def read_checkpoint(
    path: Path, *, weights: str, kind: str, build: Callable[[dict[str, Any], Path], T]
) -> T:
    """Read the description of a checkpoint's model and build the model from it.

    Args:
        path: Checkpoint folder, or run folder, of which the last checkpoint is read.
        weights: "model" or "ema".
        kind: Kind of model for error messages, with an article, such as "a ViT".
        build: Called with the contents of config.json, whose encoding options are brought up to
            date, and with the path of the weights file.

    Returns:
        The result of `build`.

    Raises:
        ValueError: If there is no checkpoint, or it is damaged or of another kind of model.
    """
    file = find_weights(path, weights)
    folder = file.parent
    try:
        verify_checksums(folder, [CONFIG_FILE, file.name])
        values = load_json(folder / CONFIG_FILE)
        if not isinstance(values, dict):
            raise ValueError(f"{CONFIG_FILE} has no fields but is {shorten(values)}")
        if "encoding" in values:
            options = options_from_file(values["encoding"], values.get("encoding_options", {}))
            values["encoding_options"] = options
        return build(values, file)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        reason = f"{CONFIG_FILE} has no field {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"checkpoint {folder} is damaged or is not a checkpoint of {kind}: {reason}"
        ) from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a model from a safetensors file.

    Args:
        path: The file.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ValueError: If the file is damaged, or a tensor is not of a floating-point type or has
            values that are not finite. The message names the file without its folder.
    """
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    for name, value in state.items():
        if not value.is_floating_point():
            raise ValueError(f"{path.name}: {name} has the type {value.dtype}, expected floats")
        if not value.isfinite().all():
            raise ValueError(f"{path.name}: {name} has values that are NaN or infinite")
    return state


def checkpoint_step(folder: Path) -> int:
    """Parse the number of training steps from the name of a checkpoint folder.

    Args:
        folder: Checkpoint folder, as `list_all_checkpoints` returns it.
    """
    match = _ANY_NAME.fullmatch(folder.name)
    assert match is not None
    return int(match[1])

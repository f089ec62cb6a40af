"""Run folders: the configuration of a training, and its checkpoints.

A checkpoint is a folder of safetensors and JSON, written atomically:

checkpoints/step-00001000/
    config.json  model.safetensors    the hub's layout, so that from_pretrained reads it
    ema.safetensors                   averaged weights
    optimizer.safetensors             moments or momentum by parameter name
    state.json                        step, counters
"""

import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harope._utils.atomic import atomic_folder, write_json_atomic
from harope._utils.identity import first_difference
from harope._utils.json_files import read_json
from harope.lab.training.serialization import from_json, to_json
from harope.lab.training.task import RunConfig
from harope.models.checkpoint_files import checkpoint_step, list_checkpoints

CONFIG_FILE = "config.json"


def open_run(config: RunConfig, folder: Path) -> Path:
    """Create a run folder, or enter one of the same configuration, and write the configuration.

    Args:
        config: Configuration of the training.
        folder: Run folder.

    Returns:
        The folder.

    Raises:
        ValueError: As `check_run` says.
    """
    check_run(config, folder)
    write_json_atomic(folder / CONFIG_FILE, to_json(config))
    return folder


def check_run(config: RunConfig, folder: Path) -> None:
    """Check that `open_run` would open the folder; nothing is written.

    Args:
        config: Configuration of the training.
        folder: Run folder, which need not exist.

    Raises:
        ValueError: If the folder holds a run of another configuration, naming the first field that
            differs and both values; if it holds other files; or if the learning rate has begun to
            decay towards another number of steps.
    """
    if (folder / CONFIG_FILE).exists():
        old = read_config(folder)
        _check_same(config, old, folder)
        _check_steps(config, old, folder)
    elif folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise ValueError(f"folder {folder} is not empty and holds no run: choose another --out")


def read_config(folder: Path) -> RunConfig:
    """Read the configuration of a run.

    Args:
        folder: Run folder.

    Returns:
        The configuration.

    Raises:
        ValueError: If the folder holds none, or a damaged one.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is not a run: it has no {CONFIG_FILE}")
    values = read_json(path, dict[str, Any])
    try:
        return from_json(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_checkpoint(
    run: Path,
    step: int,
    *,
    config: dict[str, Any],
    tensors: dict[str, dict[str, Tensor]],
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write a checkpoint and remove all but the newest ones.

    Args:
        run: The run folder.
        step: Number of steps taken.
        config: Description of the model.
        tensors: Named tensors by file stem: "model", "ema" and "optimizer".
        state: Counters, as JSON values.
        keep: Number of checkpoints that stay.

    Returns:
        The checkpoint's folder.
    """
    folder = run / "checkpoints" / f"step-{step:08d}"
    with atomic_folder(folder) as temporary:
        for stem, named in tensors.items():
            stored = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
            save_file(stored, temporary / f"{stem}.safetensors", metadata={"format": "pt"})
        write_json_atomic(temporary / "config.json", config)
        write_json_atomic(temporary / "state.json", {"step": step, **state})
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read a checkpoint.

    Args:
        folder: Folder of the checkpoint.

    Returns:
        Tensors by file stem, and the state.

    Raises:
        ValueError: If a file is missing or damaged, naming it.
    """
    tensors = {}
    for stem in ("model", "ema", "optimizer"):
        path = folder / f"{stem}.safetensors"
        try:
            tensors[stem] = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"checkpoint {path} cannot be read ({error}): remove {folder}"
            ) from None
    try:
        return tensors, read_json(folder / "state.json", dict[str, Any])
    except ValueError as error:
        raise ValueError(f"checkpoint {folder} has no state ({error}): remove it") from None


def _check_same(config: RunConfig, old: RunConfig, folder: Path) -> None:
    if difference := first_difference(to_json(old), to_json(config), ignore=config.REPORTING):
        raise ValueError(
            f"{folder} holds a run with {difference}: choose another --out, or the same "
            f"configuration to go on"
        )


def _check_steps(config: RunConfig, old: RunConfig, folder: Path) -> None:
    # Once the rate decays towards the end, another end would make it another run.
    found = list_checkpoints(folder)
    if config.steps == old.steps or not found:
        return
    begins = config.optimizer.first_decayed(min(config.steps, old.steps))
    done = checkpoint_step(found[-1])
    if done > begins:
        raise ValueError(
            f"{folder} has taken {done} steps, past step {begins:.0f}, where the decay of "
            f"{old.steps} or {config.steps} steps begins: choose another --out, or keep "
            f"steps {old.steps}"
        )

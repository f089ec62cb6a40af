"""Checkpoints: folders of safetensors and JSON with checksums, written atomically.

checkpoints/step-00001000/
    config.json  model.safetensors    the hub's layout, so that from_pretrained reads it
    ema.safetensors                   EMA weights
    optimizer.safetensors             moments or momentum by parameter name
    state.json                        step, counters, identity of the data
    train.json                        configuration of the training
    SHA256SUMS                        checksums of these files
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harope._utils.atomic import atomic_folder, temporary_path, write_json_atomic
from harope._utils.checksums import CHECKSUMS_FILE, verify_checksums, write_checksums
from harope._utils.digests import file_digest
from harope._utils.identity import first_difference
from harope._utils.json_files import read_json
from harope._utils.sharding import local_tensor, shard_like
from harope.models.checkpoint_files import (
    CONFIG_FILE,
    STATE_FILE,
    checkpoint_step,
    is_sharded_checkpoint,
    list_all_checkpoints,
    list_checkpoints,
    newest_checkpoint,
)

TRAIN_FILE = "train.json"
STEMS = ("model", "ema", "optimizer")
"""Names of the safetensors files without their ending."""

_ADAMW_STATE = {"step", "exp_avg", "exp_avg_sq"}
_MUON_STATE = {"momentum_buffer"}

TensorsByStem = dict[str, dict[str, Tensor]]
"""Named tensors of each file."""


@dataclass(frozen=True, kw_only=True)
class CheckpointState:
    """Everything in a checkpoint that is not a tensor. Older versions stored only some fields."""

    step: int
    """Number of steps done."""
    seconds: float = 0.0
    """Training time so far, in seconds."""
    images: int = 0
    """Number of images seen."""
    ema_updates: int = 0
    """Number of updates of the EMA."""
    scaler: dict[str, Any] | None = None
    """State of the gradient scaler; None without fp16."""
    data: dict[str, Any] | None = None
    """Identity of the training data; None if it is not known."""
    origin: str | None = None
    """Checkpoint or model that the run started from, and the digest of its weights; None for new
    weights."""
    checksums: str | None = None
    """Name of the file with the checksums; None if there are none."""


def save_checkpoint(
    run: Path,
    state: CheckpointState,
    *,
    model_config: dict[str, Any],
    train_config: dict[str, Any],
    tensors: TensorsByStem,
    keep: int,
) -> Path:
    """Write a checkpoint and remove all but the newest ones.

    Args:
        run: Run folder.
        state: Step and counters.
        model_config: Description of the model, as JSON values.
        train_config: Configuration of the training, as JSON values.
        tensors: Named tensors by file stem: "model", "ema" and "optimizer".
        keep: Number of checkpoints that stay.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: If it cannot be written. The checkpoints before it are unchanged.
    """
    folder = run / "checkpoints" / f"step-{state.step:08d}"
    with atomic_folder(folder) as temporary:
        for stem, named in tensors.items():
            _save_tensors(named, temporary / f"{stem}.safetensors")
        write_description(temporary, state, model_config, train_config)
    remove_old_checkpoints(run, keep)
    return folder


def write_description(
    folder: Path, state: CheckpointState, model_config: dict[str, Any], train_config: dict[str, Any]
) -> None:
    """Write the JSON files of a checkpoint, and the checksums of all its files.

    Args:
        folder: Temporary folder of the checkpoint, which has the tensors.
        state: Step and counters.
        model_config: Description of the model, as JSON values.
        train_config: Configuration of the training, as JSON values.
    """
    write_json_atomic(folder / CONFIG_FILE, model_config)
    write_json_atomic(folder / TRAIN_FILE, train_config)
    write_json_atomic(folder / STATE_FILE, asdict(state) | {"checksums": CHECKSUMS_FILE})
    write_checksums(folder)


def remove_old_checkpoints(run: Path, keep: int) -> None:
    """Remove all but the newest checkpoints of a run, whole and sharded ones.

    Args:
        run: Run folder.
        keep: Number of checkpoints that stay.
    """
    for old in list_all_checkpoints(run)[:-keep]:
        # Renamed first, so that a checkpoint is never listed with some of its files removed.
        removed = temporary_path(old)
        old.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)


def check_finite(tensors: TensorsByStem) -> None:
    """Check that a checkpoint would contain no NaN and no infinity.

    Args:
        tensors: Named tensors by file stem. Of sharded ones, this process's pieces are checked.

    Raises:
        ValueError: If a tensor is not finite, naming the first one.
    """
    for stem, named in tensors.items():
        for name, tensor in named.items():
            piece = local_tensor(tensor)
            count = int((~torch.isfinite(piece)).sum()) if piece.is_floating_point() else 0
            if count:
                raise ValueError(
                    f"{count} of {tensor.numel()} values of {stem} {name} are not finite"
                )


def load_checkpoint(folder: Path) -> tuple[TensorsByStem, CheckpointState]:
    """Read a checkpoint and verify its checksums.

    Args:
        folder: Folder of the checkpoint.

    Returns:
        Tensors by file stem, and the state.

    Raises:
        ValueError: If a file is missing or damaged, naming it.
    """
    verify_checksums(folder)
    tensors = {stem: _load_tensors(folder / f"{stem}.safetensors") for stem in STEMS}
    return tensors, read_state(folder)


def read_state(folder: Path) -> CheckpointState:
    """Read the state of a checkpoint.

    Args:
        folder: Folder of the checkpoint, whole or sharded.

    Returns:
        Step and counters.

    Raises:
        ValueError: If the file is damaged or of another step, or the checksums are missing.
    """
    state = read_json(folder / STATE_FILE, CheckpointState)
    if state.step != checkpoint_step(folder):
        raise ValueError(f"{folder / STATE_FILE} is of step {state.step}, not of {folder.name}")
    if state.checksums is not None and not (folder / state.checksums).is_file():
        raise ValueError(f"{folder / state.checksums} is missing")
    return state


@dataclass(frozen=True)
class LoadedCheckpoint:
    """The tensors and the state of a checkpoint, and which newer ones are damaged."""

    folder: Path
    """Its folder."""
    tensors: TensorsByStem
    """Tensors by file stem; none yet of a sharded checkpoint, which all processes read together."""
    state: CheckpointState
    """Step and counters."""
    damaged: Mapping[Path, str] = field(default_factory=dict)
    """Newer checkpoints of the run that are damaged, with the reasons."""


def load_newest_checkpoint(run: Path) -> LoadedCheckpoint | None:
    """Load the newest checkpoint of a run that is not damaged.

    Args:
        run: Run folder.

    Returns:
        The checkpoint; None if the run has none.

    Raises:
        ValueError: If all checkpoints are damaged, naming the newest one.
    """
    damaged: dict[Path, str] = {}
    for folder in reversed(list_all_checkpoints(run)):
        try:
            if is_sharded_checkpoint(folder):
                verify_checksums(folder)
                return LoadedCheckpoint(folder, {}, read_state(folder), damaged)
            return LoadedCheckpoint(folder, *load_checkpoint(folder), damaged)
        except ValueError as error:
            damaged[folder] = str(error)
    if damaged:
        folder, reason = next(iter(damaged.items()))
        raise ValueError(
            f"checkpoint {folder} cannot be read ({reason}), and no older one can: restore it, or "
            f"remove {folder.parent} to start again"
        )
    return None


def load_start(folder: Path) -> LoadedCheckpoint:
    """Load the checkpoint of another run, which a new run starts from.

    Args:
        folder: Folder of the checkpoint.

    Returns:
        The checkpoint.

    Raises:
        ValueError: If it is not a checkpoint, or is damaged.
    """
    if is_sharded_checkpoint(folder):
        raise ValueError(
            f"{folder} is sharded: `harope gather {folder}` makes a whole checkpoint to start from"
        )
    if folder not in list_checkpoints(folder.parent.parent):
        raise ValueError(
            f"{folder} is not a checkpoint: pass a folder such as RUN/checkpoints/step-00001000"
        )
    return LoadedCheckpoint(folder, *load_checkpoint(folder))


def describe_start(folder: Path) -> str:
    """Identify the checkpoint that a new run starts from.

    Args:
        folder: Folder of the checkpoint.

    Returns:
        Its step and the digest of its weights.
    """
    return f"{folder.name}, weights {file_digest(folder / 'model.safetensors', length=16)}"


def stored_origin(path: Path) -> str | None:
    """Read what a run started from.

    Args:
        path: A run, whose last checkpoint is read, a checkpoint, or any other folder.

    Returns:
        `CheckpointState.origin`; None also if the folder has no checkpoint.

    Raises:
        ValueError: If the file is damaged.
    """
    file = newest_checkpoint(path) / STATE_FILE
    return read_json(file, CheckpointState).origin if file.is_file() else None


def advise_on_divergence(run: Path) -> str:
    """Advise what to do about a training with values that are not finite.

    Args:
        run: Run folder.

    Returns:
        The end of an error message.
    """
    advice = "a smaller optimizer.lr, or with optimizer.clip_norm"
    checkpoints = list_all_checkpoints(run)
    if not checkpoints:
        return f"start again with {advice}"
    return f"go on with `--from {checkpoints[-1]}`, another --out and {advice}"


def check_same_tensors(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check names and shapes of stored tensors.

    Args:
        stored: Tensors of a checkpoint.
        expected: Tensors of the training.

    Raises:
        ValueError: If they differ, naming the first difference.
    """
    shapes = [{name: list(t.shape) for name, t in part.items()} for part in (stored, expected)]
    if difference := first_difference(*shapes):
        raise ValueError(f"it has {difference}")


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return an optimizer's state as named tensors.

    Args:
        optimizer: An optimizer of the model's parameters.
        model: The model.

    Returns:
        Moments, step counts and the like, named `{key}.{parameter name}`.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{key}.{names[id(parameter)]}": torch.as_tensor(value)
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Load what `optimizer_tensors` returned.

    Args:
        optimizer: An optimizer of the model's parameters, whose state is filled.
        model: The same model.
        tensors: The state, named `{key}.{parameter name}`.

    Raises:
        ValueError: If it is the state of another optimizer or model, naming the first parameter.
    """
    parameters = dict(model.named_parameters())
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for path, value in tensors.items():
        key, _, name = path.partition(".")
        by_parameter.setdefault(name, {})[key] = value
    for name, values in by_parameter.items():
        parameter = parameters.get(name)
        group = groups.get(id(parameter), {})
        expected = _MUON_STATE if "momentum" in group else _ADAMW_STATE
        if parameter is None or not group or values.keys() != expected:
            raise ValueError(f"it has the state of another optimizer for {name}: {sorted(values)}")
        for key, value in values.items():
            if value.ndim and value.shape != parameter.shape:
                raise ValueError(f"its {key} of {name} has the shape {list(value.shape)}")
            # AdamW's step count lives on the CPU unless its group is fused or capturable.
            device = parameter.device if value.ndim or group.get("fused") else "cpu"
            stored = shard_like({key: value}, {key: parameter})[key] if value.ndim else value
            optimizer.state[parameter][key] = stored.to(device, copy=True)


def set_aside(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint, so that it is not taken for one any more.

    Args:
        checkpoint: Folder of the checkpoint.

    Returns:
        Its new path, which ends in `.damaged`.
    """
    target = checkpoint.with_name(f"{checkpoint.name}.damaged")
    if target.exists():
        shutil.rmtree(target)
    return checkpoint.rename(target)


def _save_tensors(named: dict[str, Tensor], path: Path) -> None:
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
    try:
        save_file(stored, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # Its writer reports a full disk and the like in its own way.
        raise OSError(f"{path} cannot be written: {error}") from None


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None

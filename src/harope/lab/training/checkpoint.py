"""Training checkpoints: folders of safetensors and a JSON state, written atomically.

checkpoints/step-00001000/
    config.json  model.safetensors    the hub's layout, so that from_pretrained reads it
    ema.safetensors                   averaged weights
    optimizer.safetensors             moments or momentum by parameter name
    state.json                        step, counters
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harope._utils.atomic import atomic_folder, write_json_atomic
from harope._utils.json_files import read_json
from harope.models.checkpoint_files import list_checkpoints


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


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state, named `{key}.{parameter name}`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{key}.{names[id(parameter)]}": torch.as_tensor(value)
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Load what `optimizer_tensors` returned into an optimizer of the same model."""
    parameters = dict(model.named_parameters())
    fused = {
        id(parameter)
        for group in optimizer.param_groups
        if group.get("fused")
        for parameter in group["params"]
    }
    for name, value in tensors.items():
        key, _, parameter_name = name.partition(".")
        parameter = parameters[parameter_name]
        # AdamW's step count lives on the CPU unless its group is fused or capturable.
        device = parameter.device if value.ndim or id(parameter) in fused else "cpu"
        optimizer.state[parameter][key] = value.to(device, copy=True)

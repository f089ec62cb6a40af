"""Training checkpoints: safetensors and a JSON state, written beside and renamed into place.

checkpoints/step-00001000/
    config.json  model.safetensors    the hub's layout, so that from_pretrained reads it
    ema.safetensors                   averaged weights
    optimizer.safetensors             moments or momentum by parameter name
    state.json                        step, counters
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

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
    """Write checkpoint `step` of a run and remove all but the newest `keep`.

    `tensors` maps file stems ("model", "ema", "optimizer") to named tensors.
    """
    folder = run / "checkpoints" / f"step-{step:08d}"
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for stem, named in tensors.items():
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
        save_file(contiguous, beside / f"{stem}.safetensors", metadata={"format": "pt"})
    (beside / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (beside / "state.json").write_text(json.dumps({"step": step, **state}, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Tensors by file stem, and the state.

    Raises ValueError naming the file when one is missing or damaged.
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
        return tensors, json.loads((folder / "state.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"checkpoint {folder} has no state ({error}): remove it") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as `{key}.{parameter name}`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{key}.{names[id(parameter)]}": torch.as_tensor(value)
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """The reverse of optimizer_tensors."""
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

"""How a model is executed on a device: compilation, precision, data workers."""

import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["no", "bf16", "fp16"]
"""Mixed precision of forward passes: none, bfloat16 or float16."""

_MAX_WORKERS = 8
_OLDEST_COMPILED = (7, 0)


def compiles(choice: bool | Literal["auto"], device: torch.device) -> bool:
    """Return whether to compile a network.

    Args:
        choice: True or False; "auto": on CUDA devices that torch.compile supports, if Triton and a
            C compiler are there, which it needs. On CPUs it gains little and takes minutes.
        device: Device of the network.
    """
    if choice != "auto":
        return choice
    return device.type == "cuda" and _has_compiler(device)


def _has_compiler(device: torch.device) -> bool:
    compilers = (os.environ.get("CC"), "cc", "gcc", "clang")
    return (
        find_spec("triton") is not None
        and any(name and shutil.which(name) for name in compilers)
        and torch.cuda.get_device_capability(device) >= _OLDEST_COMPILED
    )


def num_data_workers(choice: int | Literal["auto"], device: torch.device) -> int:
    """Return the number of processes that prefetch data for a training process.

    Args:
        choice: The number; "auto": none for a CPU, whose cores are busy with the training, and for
            a GPU those that are left, at most 8.
        device: Device of the training.
    """
    if choice != "auto":
        return choice
    if device.type == "cpu":
        return 0
    # The training processes of a machine share its cores, and one core of each feeds its GPU.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(0, min(_MAX_WORKERS, (cores or 1) // processes - 1))


def inference_precision(
    choice: Precision | None, trained: Precision, device: torch.device | str
) -> Precision:
    """Return the precision in which a trained model is evaluated.

    Args:
        choice: The precision; None: that of the training on CUDA devices, where half precision is
            several times as fast, and float32 on others.
        trained: Precision of the training.
        device: Device of the model.
    """
    if choice is not None:
        return choice
    return trained if torch.device(device).type == "cuda" else "no"


def describe_precision(precision: Precision) -> dict[str, str]:
    """Describe the precision of samples.

    Args:
        precision: The precision.

    Returns:
        JSON values that are equal only if the samples are; none for float32, in which all samples
        were computed before there was a choice.
    """
    return {} if precision == "no" else {"precision": precision}


def autocast(precision: Precision, device: torch.device | str) -> AbstractContextManager[object]:
    """Return a context in which forward passes have a precision.

    Args:
        precision: The precision.
        device: Device of the model.
    """
    if precision == "no":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(torch.device(device).type, dtype)

"""The machine, its packages, and the modules of harope that can be imported with them."""

import importlib
import pkgutil
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

import harope
from benchmarks.gpu.bench import Bench, Result, describe
from benchmarks.gpu.stand_ins import STAND_INS

PACKAGES = (
    "torch",
    "triton",
    "timm",
    "transformers",
    "accelerate",
    "safetensors",
    "jaxtyping",
    "pydantic",
    "numpy",
    "diffusers",
    "tqdm",
    "tensorboard",
    "pillow",
)


def environment(bench: Bench) -> Result:
    """Describe the machine.

    Args:
        bench: Device.

    Returns:
        Versions, None for a missing package; stand-ins; properties of the GPU, memory in GiB.
    """
    found: Result = {
        "python": sys.version.split()[0],
        **{name: _version(name) for name in PACKAGES},
        "stand_ins": list(STAND_INS),
        "device": str(bench.device),
    }
    if bench.on_gpu:
        properties = torch.cuda.get_device_properties(bench.device)
        free, _ = torch.cuda.mem_get_info(bench.device)
        found |= {
            "gpu": properties.name,
            "sm": f"{properties.major}.{properties.minor}",
            "gib": round(properties.total_memory / 2**30),
            "processors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "free_gib": round(free / 2**30, 1),
        }
    return found


def imports(bench: Bench) -> Result:
    """Import all modules of harope.

    Args:
        bench: Not used.

    Returns:
        Number of imported modules, and the error of each module that needs a missing package.
    """
    failed, count = {}, 0
    for module in pkgutil.walk_packages(harope.__path__, "harope."):
        if module.name.endswith(".main"):
            continue
        try:
            importlib.import_module(module.name)
            count += 1
        except Exception as error:  # Whatever a module raises is the result.
            failed[module.name] = describe(error, 120)
    return {"imported": count, "failed": failed}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

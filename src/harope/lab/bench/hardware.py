"""Hardware and software versions of a measurement."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    "torch", "triton", "timm", "diffusers", "transformers", "rotary-embedding-torch",
    "x-transformers", "flash-attn", "liger-kernel",
)  # fmt: skip
"""Packages whose versions are reported."""


def describe_hardware(device: torch.device) -> dict[str, str]:
    """Return the device's name, the number of CPU threads, and the versions of Python and packages.

    Args:
        device: Device of the measurement.

    Returns:
        Text by name of the property or package; `not installed` for missing packages.
    """
    facts = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    lines = cpuinfo.read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

"""Whether the Triton kernels can be used on a GPU, and the one warning if they cannot."""

import importlib
import os
import warnings
from functools import cache

import torch

SWITCH = "HAROPE_KERNELS"
"""Environment variable: 0 turns the kernels off, 1, the default, allows them."""

OLDEST_CAPABILITY = (7, 5)
"""Compute capability of the oldest NVIDIA GPUs that Triton compiles our kernels for."""

INSTEAD = (
    f"PyTorch operations compute the same, but slower. Set {SWITCH}=0 to use them without this "
    f"warning"
)
"""What happens without a kernel, the end of every warning."""


def has_kernels(device: torch.device) -> bool:
    """Return whether the kernels can be used on a device.

    Args:
        device: Device of the queries.

    Raises:
        ValueError: If the environment variable HAROPE_KERNELS is neither 0 nor 1.
    """
    return device.type == "cuda" and _is_allowed() and _is_supported(device)


def _is_allowed() -> bool:
    value = os.environ.get(SWITCH, "1")
    if value not in ("0", "1"):
        raise ValueError(
            f"the environment variable {SWITCH} is {value!r}: set it to 0 to turn the Triton "
            f"kernels off, or to 1 to allow them"
        )
    return value == "1"


# Cached, so that the warning is given once.
@cache
def _is_supported(device: torch.device) -> bool:
    obstacle = _obstacle(device)
    if obstacle is not None:
        warnings.warn(
            f"the Triton kernels of harope are not used on {device}: {obstacle}. {INSTEAD}",
            RuntimeWarning,
            stacklevel=2,
        )
    return obstacle is None


def _obstacle(device: torch.device) -> str | None:
    """Return what keeps the kernels from being used, and the remedy; None for nothing."""
    # Numbers of AMD's architectures mean something else, and fake tensors need no GPU.
    if torch.version.hip is None and torch.cuda.is_available():
        capability = torch.cuda.get_device_capability(device)
        if capability < OLDEST_CAPABILITY:
            own, needed = (".".join(map(str, c)) for c in (capability, OLDEST_CAPABILITY))
            return f"its compute capability is {own}, and they need {needed}"
    try:
        importlib.import_module("harope.rope._fast.triton")
    # An installation that is damaged or does not fit raises all kinds of errors.
    except Exception as error:
        return f"Triton cannot be imported ({type(error).__name__}: {error}); pip install triton"
    return None

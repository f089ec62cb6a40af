"""Copies from the host to a device."""

import torch
from torch import Tensor


def copy_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, without waiting for what the device does at the time.

    Args:
        tensor: Tensor, usually on the CPU.
        device: The device.

    Returns:
        The copy, or the tensor itself if it is there already.
    """
    if device.type == "cuda" and tensor.is_cpu and not tensor.is_pinned():
        # From other memory, the copy would begin only after the device has caught up.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)

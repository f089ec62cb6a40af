"""Arithmetic in the dtype of the operands."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which autocast is disabled for the device of a tensor."""
    kind = tensor.device.type
    # Some devices have no autocast, such as meta, on which shapes and costs are computed.
    return (
        torch.autocast(kind, enabled=False)
        if torch.amp.is_autocast_available(kind)
        else nullcontext()
    )

"""Arithmetic that keeps the dtype of its factors."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Context in which autocast leaves products on the tensor's device as they are."""
    kind = tensor.device.type
    # Not every device has autocast: meta, where shapes and costs are counted, has none.
    return (
        torch.autocast(kind, enabled=False)
        if torch.amp.is_autocast_available(kind)
        else nullcontext()
    )

"""How operations are executed: eagerly, by a tracer, by a function transform, or under autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor


def is_tracing() -> bool:
    """Return whether operations are recorded by a compiler or tracer instead of executed."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_exporting() -> bool:
    """Return whether a graph is made for another runtime, which has none of our operators."""
    exporting = getattr(torch.compiler, "is_exporting", None)
    return torch.jit.is_tracing() or (exporting is not None and exporting())


def is_transforming() -> bool:
    """Return whether vmap, grad or jvp is active; our operators do not support them."""
    return torch._C._are_functorch_transforms_active()


def is_eager() -> bool:
    """Return whether operations are executed as they are called."""
    return not is_tracing() and not is_transforming()


def runs_real_tensors() -> bool:
    """Return whether results are plain tensors with values, which later calls may reuse.

    They are not under compilers, exporters and function transforms, nor under FakeTensorMode and
    the other modes that these are built from.
    """
    return is_eager() and not any(
        torch._C._get_dispatch_mode(mode) is not None
        for mode in torch._C._TorchDispatchModeKey.__members__.values()
    )


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is neither quantized nor distributed: its numbers are all there are.

    Args:
        tensor: Parameter or other tensor; those of FakeTensorMode stand for plain ones.
    """
    return type(tensor) in (Tensor, nn.Parameter, FakeTensor)


def float64_device(device: torch.device | None) -> torch.device | None:
    """Return where to compute constants in float64 that are needed on a device.

    It is the device itself, so that a GPU does not wait for a copy from the host, but the CPU for
    MPS, which has no float64.

    Args:
        device: Device of the constants; None for the default device.
    """
    return torch.device("cpu") if device is not None and device.type == "mps" else device


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which autocast is disabled for the device of a tensor.

    It does nothing where autocast is not enabled: exporters would record a region of the graph for
    it, which some runtimes reject.

    Args:
        tensor: Tensor on the device.
    """
    kind = tensor.device.type
    # Some devices have no autocast, such as meta, on which shapes and costs are computed.
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)

"""Whether operations run, or are recorded for a compiler or another runtime."""

import torch


def traces() -> bool:
    """Whether operations are being recorded rather than run."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def exports() -> bool:
    """Whether a graph is made for other runtimes, which know no operators of ours."""
    exporting = getattr(torch.compiler, "is_exporting", None)
    return torch.jit.is_tracing() or (exporting is not None and exporting())


def transforms() -> bool:
    """Whether vmap, grad or jvp is at work, which knows no operators of ours."""
    return torch._C._are_functorch_transforms_active()


def runs_eagerly() -> bool:
    """Whether operations run as they are called: nothing records or transforms them."""
    return not traces() and not transforms()

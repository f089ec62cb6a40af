"""Launches on the right device, and formulas in place of kernels that cannot be launched."""

import subprocess
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from triton.errors import TritonError

from harope.rope._fast.availability import INSTEAD

Result = TypeVar("Result")

FAILURES = (TritonError, RuntimeError, OSError, ImportError, subprocess.SubprocessError)
"""What Triton raises if it cannot compile, load or launch a kernel."""


class Fallback:
    """Runs kernels, or formulas in place of kernels that failed before they were launched.

    A failure is reported by one warning and remembered, because compiling again would take as long
    and fail again. Errors of Triton concern one kernel, for one dtype and head_dim: it needs more
    shared memory than the GPU has, or does not compile. Other errors concern all kernels: there is
    no C compiler, or the cache of compiled kernels cannot be written.
    """

    def __init__(self) -> None:
        self._failed: set[tuple[object, ...]] = set()
        self._is_broken = False

    def run(
        self,
        kernel: str,
        x: Tensor,
        launch: Callable[[], Result],
        formula: Callable[[], Result],
    ) -> Result:
        """Launch a kernel on the device of its input, or compute its formula.

        Args:
            kernel: Its name, for the warning.
            x: One of its inputs, of shape (..., head_dim).
            launch: Launches the kernel.
            formula: Computes the same by PyTorch operations.

        Returns:
            The result of one of the two.
        """
        variant = (kernel, x.device, x.dtype, x.shape[-1])
        if self._is_broken or variant in self._failed:
            return formula()
        try:
            # Triton launches on the current device, which need not be that of the tensors.
            with torch.cuda.device_of(x):
                return launch()
        except FAILURES as error:
            if _is_fault_of_device(error):
                raise
            self._failed.add(variant)
            self._is_broken = not isinstance(error, TritonError)
            warnings.warn(
                f"the Triton kernel {kernel} cannot be used on {x.device} for head_dim "
                f"{x.shape[-1]} in {str(x.dtype).removeprefix('torch.')} "
                f"({type(error).__name__}: {_first_line(error)}). {INSTEAD}",
                RuntimeWarning,
                stacklevel=2,
            )
        return formula()


def _is_fault_of_device(error: Exception) -> bool:
    """Return whether memory has run out or the GPU has failed, which no formula mends."""
    kinds = (getattr(torch, name, None) for name in ("OutOfMemoryError", "AcceleratorError"))
    return isinstance(error, tuple(kind for kind in kinds if kind is not None))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


FALLBACK = Fallback()
"""Of all kernels of the process."""

"""The decorator of Triton kernels."""

import inspect
from collections.abc import Callable
from typing import Any

import triton


def kernel(function: Callable[..., Any]) -> Any:
    """Apply `triton.jit` to the undecorated function, which type-checking import hooks may wrap."""
    return triton.jit(inspect.unwrap(function))

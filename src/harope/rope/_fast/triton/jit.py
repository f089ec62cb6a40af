"""Functions that Triton compiles."""

import inspect
from collections.abc import Callable
from typing import Any

import triton


def kernel(function: Callable[..., Any]) -> Any:
    """`triton.jit` of the bare function: import hooks that check types may have wrapped it."""
    return triton.jit(inspect.unwrap(function))

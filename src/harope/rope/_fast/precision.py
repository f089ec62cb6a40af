"""Products of float32 matrices that stay float32 where a GPU is allowed to use TF32.

`torch.set_float32_matmul_precision("high")` rounds the factors of every product to 10 bits of
mantissa. For activations that is the user's choice, but a rotation would no longer be orthogonal,
nor (A_q, A_k) each other's inverse.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harope.rope._fast.execution import is_exporting, is_transforming


def exact_matmul(
    a: Float[Tensor, "batch rows inner"], b: Float[Tensor, "batch inner columns"]
) -> Float[Tensor, "batch rows columns"]:
    """Multiply batches of matrices without TF32, in forward and backward, eager and compiled.

    Args:
        a: Left factors, in float32 or float64.
        b: Right factors, in the same dtype.
    """
    if not a.is_cuda or is_exporting() or is_transforming():
        return a @ b
    return torch.ops.harope.exact_matmul(a, b)


@contextmanager
def without_tf32(device: torch.device) -> Iterator[None]:
    """Disable TF32 in matrix products while the context is open.

    The setting belongs to the process, and compilers do not see it change: open the context only
    inside a custom operator, whose kernels are launched before it closes.

    Args:
        device: Device of the products. The context does nothing unless it is a CUDA device.
    """
    if device.type != "cuda":
        yield
        return
    settings: Any = torch.backends.cuda.matmul
    # torch 2.9 replaced the flag by a precision, and refuses to read one after the other was set.
    has_precision = hasattr(settings, "fp32_precision")
    name = "fp32_precision" if has_precision else "allow_tf32"
    before = getattr(settings, name)
    setattr(settings, name, "ieee" if has_precision else False)
    try:
        yield
    finally:
        setattr(settings, name, before)


@torch.library.custom_op("harope::exact_matmul", mutates_args=())
def _exact_matmul_op(a: Tensor, b: Tensor) -> Tensor:
    with without_tf32(a.device):
        return torch.bmm(a, b)


_exact_matmul_op.register_fake(lambda a, b: torch.bmm(a, b))


def _save_factors(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    a, b = ctx.saved_tensors
    multiply = torch.ops.harope.exact_matmul
    return (
        multiply(grad, b.mT) if ctx.needs_input_grad[0] else None,
        multiply(a.mT, grad) if ctx.needs_input_grad[1] else None,
    )


_exact_matmul_op.register_autograd(_backward, setup_context=_save_factors)

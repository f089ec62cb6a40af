"""The exponential of skew-symmetric matrices, fast enough for every training step.

torch.linalg.matrix_exp spends most of its time in its gradient, the exponential of a matrix of
twice the size. Here forward and backward are a few batched products each: the Taylor polynomial of
S / 2^s, squared s times.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harope.rope._fast.execution import is_exporting, is_transforming

Matrices = Float[Tensor, "*batch dim dim"]

# Degree: largest norm for which the derivative's remainder, norm^degree / degree!, is a few
# roundings. The last norm is near 1, where cancellation and squarings together cost least accuracy.
FLOAT32 = {3: 0.007, 6: 0.18, 9: 0.65, 12: 1.5}
FLOAT64 = {6: 0.006, 12: 0.24, 18: 1.1}


def skew_exp(skew: Matrices) -> Matrices:
    """Compute exp(S) of every matrix of a batch, in float32 or float64.

    Degree and squarings depend on the largest norm of the batch, so the call waits once for a GPU.

    Args:
        skew: Skew-symmetric matrices in float32 or float64.

    Returns:
        Rotations in the same dtype.
    """
    if is_transforming() or is_exporting():
        return torch.linalg.matrix_exp(skew)
    if torch.compiler.is_compiling() or skew.is_meta or type(skew) is not Tensor:
        # There are no values, and so no norm, to depend on.
        return _skew_exp_op(skew)
    # Recomputed in the backward pass: the powers of all layers would need more memory than a layer.
    return checkpoint(_taylor, skew, *_effort(skew), use_reentrant=False)


def _effort(skew: Tensor) -> tuple[int, int]:
    """Return the degree, and s such that S / 2^s is small enough for the polynomial."""
    largest = FLOAT64 if skew.dtype == torch.float64 else FLOAT32
    with torch.no_grad():
        # Both bound the spectral norm: eigenvalues of skew-symmetric matrices come in pairs.
        sums = skew.abs().sum(-1).amax(-1)
        norms = torch.minimum(sums, skew.square().sum((-2, -1)).div(2).sqrt())
        norm = norms.max().item() if norms.numel() else 0.0
    for degree, bound in largest.items():
        if norm <= bound:
            return degree, 0
    # NaN in, NaN out: it shows in the loss.
    degree, bound = max(largest.items())
    return degree, math.ceil(math.log2(norm / bound)) if math.isfinite(norm) else 0


def _taylor(skew: Tensor, degree: int, squarings: int) -> Tensor:
    """Evaluate the Taylor polynomial by Horner's rule in S^3, then square."""
    one = skew / 2**squarings
    two = one @ one
    three = two @ one
    eye = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    total = three / math.factorial(degree)
    for power in range(degree - 3, -1, -3):
        inverse = [1 / math.factorial(power + more) for more in range(3)]
        total = torch.add(total + inverse[0] * eye, one, alpha=inverse[1])
        total = torch.add(total, two, alpha=inverse[2])
        if power > 0:
            total = total @ three
    for _ in range(squarings):
        total = total @ total
    return total


def _taylor_along(matrix: Tensor, direction: Tensor, degree: int, squarings: int) -> Tensor:
    """Compute the derivative of `_taylor` in a direction; at S^T it is the gradient of exp(S)."""
    one, d_one = matrix / 2**squarings, direction / 2**squarings
    two, d_two = one @ one, d_one @ one + one @ d_one
    three, d_three = two @ one, d_two @ one + two @ d_one
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    total, d_total = three / math.factorial(degree), d_three / math.factorial(degree)
    for power in range(degree - 3, -1, -3):
        inverse = [1 / math.factorial(power + more) for more in range(3)]
        total = total + inverse[0] * eye + inverse[1] * one + inverse[2] * two
        d_total = d_total + inverse[1] * d_one + inverse[2] * d_two
        if power > 0:
            total, d_total = total @ three, d_total @ three + total @ d_three
    for _ in range(squarings):
        total, d_total = total @ total, d_total @ total + total @ d_total
    return d_total


@torch.library.custom_op("harope::skew_exp", mutates_args=())
def _skew_exp_op(skew: Tensor) -> Tensor:
    """Compute the same as one operator: the graph of a compiler has no loop over squarings."""
    return _taylor(skew, *_effort(skew))


@torch.library.custom_op("harope::skew_exp_backward", mutates_args=())
def _skew_exp_backward_op(skew: Tensor, grad: Tensor) -> Tensor:
    return _taylor_along(skew.mT.contiguous(), grad, *_effort(skew))


_skew_exp_op.register_fake(torch.empty_like)
_skew_exp_backward_op.register_fake(lambda skew, grad: torch.empty_like(skew))


def _save_inputs(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> Tensor:
    return _skew_exp_backward_op(*ctx.saved_tensors, grad)


_skew_exp_op.register_autograd(_backward, setup_context=_save_inputs)

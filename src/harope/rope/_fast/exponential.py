"""The exponential of skew-symmetric matrices, fast enough for every training step.

torch.linalg.matrix_exp spends most of its time in its gradient, the exponential of a matrix of
twice the size. Here forward and backward are a few batched products each: the Taylor polynomial of
S / 2^s, squared s times.

On the CPU, degree and s depend on the norm. A GPU would have to wait for that number, so there they
are the same for every S, and what is squared is exp(S / 2^s) - I: its digits do not disappear
behind those of I, however small S / 2^s is.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harope.rope._fast.execution import is_exporting, is_transforming
from harope.rope._fast.precision import without_tf32

Matrices = Float[Tensor, "*batch dim dim"]

# Degree: largest norm for which the derivative's remainder, norm^degree / degree!, is a few
# roundings. The last norm is near 1, where cancellation and squarings together cost least accuracy.
FLOAT32 = {3: 0.007, 6: 0.18, 9: 0.65, 12: 1.5}
FLOAT64 = {6: 0.006, 12: 0.24, 18: 1.1}

# The error grows with the norm, by about one rounding per unit. Beyond the first norm, products of
# the result with its transpose would differ from the identity by more than 1e-5 in float32; beyond
# the second, even float64 would not have the accuracy of float32.
MAX_FLOAT32_NORM, MAX_NORM = 64.0, 1e9

# Degree and squarings for norms up to 1e5 in float64.
ONNX_EFFORT = (18, 17)

# Degree and squarings on GPUs, for norms up to MAX_FIXED_NORM, which is 0.18 * 2^25. These degrees
# need the fewest products.
FIXED_EFFORT = {torch.float32: (6, 25), torch.float64: (12, 25)}
MAX_FIXED_NORM = 6e6

# Squarings after which the result is made orthogonal again, because each one doubles its distance
# from that: ten make 1e-4 of a rounding, and the step squares it. The first ones are near I.
ORTHOGONALISED = (15, 25)


def skew_exp(skew: Matrices) -> Matrices:
    """Compute exp(S) of every matrix of a batch.

    On the CPU, degree, squarings and dtype of the computation depend on the largest norm of the
    batch, and large generators in float32 are computed in float64. On other devices all matrices
    are computed alike, without waiting for the device and without TF32. Results are orthogonal to
    about 1e-5 in both cases, whatever the norm.

    Args:
        skew: Skew-symmetric matrices in float32 or float64.

    Returns:
        Rotations in the same dtype; NaN for generators that are not finite, so that it shows in the
        loss, and on devices other than the CPU for Frobenius norms above 8e6.

    Raises:
        ValueError: On the CPU, if the norm is finite but larger than 1e9, where even float64 is not
            accurate.
    """
    if torch.onnx.is_in_onnx_export():
        # ONNX has no matrix exponential, and the norm is not known.
        return _taylor(skew.double(), *ONNX_EFFORT).to(skew)
    if is_transforming() or is_exporting():
        return torch.linalg.matrix_exp(skew)
    if not (skew.is_cpu and _has_values(skew)):
        return _skew_exp_op(skew)
    wide, effort = _prepare(skew)
    # Recomputed in the backward pass: the powers of all layers would need more memory than a layer.
    return checkpoint(_taylor, wide, *effort, use_reentrant=False).to(skew)


def widen_large(skew: Matrices) -> Matrices:
    """Return generators in float64 if maps of them to rotations are inaccurate in float32.

    On CUDA devices that is always, as looking at the values would wait for the device. Elsewhere,
    under compilers, exporters and function transforms, there are no values to decide by, and the
    generators are returned as they are. MPS devices have no float64.

    Args:
        skew: Skew-symmetric matrices in float32 or float64.

    Raises:
        ValueError: On the CPU, if the norm is finite but larger than 1e9, where even float64 is not
            accurate.
    """
    if skew.is_cuda:
        return skew.double()
    if is_transforming() or is_exporting() or not (skew.is_cpu and _has_values(skew)):
        return skew
    return _widen(skew, _norm_bound(skew))


def _has_values(skew: Tensor) -> bool:
    return not (torch.compiler.is_compiling() or skew.is_meta or type(skew) is not Tensor)


@torch.no_grad()
def _norm_bound(skew: Tensor) -> float:
    """Bound the largest spectral norm of a batch."""
    # Both are bounds: eigenvalues of skew-symmetric matrices come in pairs.
    sums = skew.abs().sum(-1).amax(-1)
    norms = torch.minimum(sums, skew.square().sum((-2, -1)).div(2).sqrt())
    return norms.max().item() if norms.numel() else 0.0


def _widen(skew: Tensor, norm: float) -> Tensor:
    if math.isfinite(norm) and norm > MAX_NORM:
        raise ValueError(
            f"generators have the norm {norm:.2g}, but rotations are computed accurately only up "
            f"to {MAX_NORM:.0g}: lower the learning rate of the encoding"
        )
    if norm <= MAX_FLOAT32_NORM or skew.dtype == torch.float64:
        return skew
    return skew.double()


def _prepare(skew: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return S in the dtype to compute in, and degree and s such that S / 2^s is small enough."""
    norm = _norm_bound(skew)
    wide = _widen(skew, norm)
    largest = FLOAT64 if wide.dtype == torch.float64 else FLOAT32
    for degree, bound in largest.items():
        if norm <= bound:
            return wide, (degree, 0)
    degree, bound = max(largest.items())
    # Not finite in, not finite out.
    return wide, (degree, math.ceil(math.log2(norm / bound)) if math.isfinite(norm) else 0)


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


def fixed_effort_exp(skew: Matrices) -> Matrices:
    """Compute exp(S) by the same operations whatever the values of S.

    Args:
        skew: Skew-symmetric matrices (batch, dim, dim) in float32 or float64.

    Returns:
        Rotations; NaN for Frobenius norms above 8e6.
    """
    degree, squarings = FIXED_EFFORT[skew.dtype]
    one = _scaled_down(skew, squarings)
    # E = exp(X) - I by Horner's rule: X (I + X / 2 (I + X / 3 (...))).
    distance = one / degree
    for power in range(degree - 1, 0, -1):
        distance = torch.baddbmm(one, one, distance, beta=1 / power, alpha=1 / power)
    for done in range(1, squarings + 1):
        # (I + E)^2 - I
        distance = torch.baddbmm(distance, distance, distance, beta=2)
        if done in ORTHOGONALISED:
            distance = _orthogonalised(distance)
    return distance + torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)


def fixed_effort_exp_along(matrix: Matrices, direction: Matrices) -> Matrices:
    """Compute the derivative of `fixed_effort_exp` in a direction; at S^T it is the gradient.

    Args:
        matrix: Skew-symmetric matrices (batch, dim, dim) in float32 or float64.
        direction: Matrices of the same shape and dtype.
    """
    degree, squarings = FIXED_EFFORT[matrix.dtype]
    one, d_one = _scaled_down(matrix, squarings), direction / 2**squarings
    distance, derivative = one / degree, d_one / degree
    for power in range(degree - 1, 0, -1):
        scale = 1 / power
        derivative = torch.baddbmm(
            torch.baddbmm(d_one, d_one, distance, beta=scale, alpha=scale),
            one,
            derivative,
            alpha=scale,
        )
        distance = torch.baddbmm(one, one, distance, beta=scale, alpha=scale)
    for done in range(1, squarings + 1):
        derivative = torch.baddbmm(
            torch.baddbmm(derivative, derivative, distance, beta=2), distance, derivative
        )
        distance = torch.baddbmm(distance, distance, distance, beta=2)
        if done in ORTHOGONALISED:
            distance = _orthogonalised(distance)
    return derivative


def _scaled_down(skew: Tensor, squarings: int) -> Tensor:
    # The Frobenius norm is sqrt(2) times a bound of the spectral norm, see `_norm_bound`.
    norm = torch.linalg.vector_norm(skew, dim=(-2, -1), keepdim=True)
    scale = torch.where(norm <= MAX_FIXED_NORM * 2**0.5, 2.0**-squarings, torch.nan)
    return skew * scale.to(skew.dtype)


def _orthogonalised(distance: Tensor) -> Tensor:
    """Do a step of Newton and Schulz, Q (3 I - Q^T Q) / 2, where Q = I + E."""
    defect = torch.baddbmm(distance + distance.mT, distance.mT, distance)
    halved = torch.add(distance, defect, alpha=-0.5)
    return torch.baddbmm(halved, distance, defect, alpha=-0.5)


@torch.library.custom_op("harope::skew_exp", mutates_args=())
def _skew_exp_op(skew: Tensor) -> Tensor:
    """Compute the same as one operator: the graph of a compiler has no loop over squarings."""
    if skew.is_cpu:
        wide, effort = _prepare(skew)
        return _taylor(wide, *effort).to(skew)
    with without_tf32(skew.device):
        return fixed_effort_exp(skew)


@torch.library.custom_op("harope::skew_exp_backward", mutates_args=())
def _skew_exp_backward_op(skew: Tensor, grad: Tensor) -> Tensor:
    if skew.is_cpu:
        wide, effort = _prepare(skew)
        return _taylor_along(wide.mT.contiguous(), grad.to(wide), *effort).to(skew)
    with without_tf32(skew.device):
        return fixed_effort_exp_along(skew.mT, grad)


_skew_exp_op.register_fake(torch.empty_like)
_skew_exp_backward_op.register_fake(lambda skew, grad: torch.empty_like(skew))


def _save_inputs(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> Tensor:
    (skew,) = ctx.saved_tensors
    if torch.is_grad_enabled() and _has_values(skew) and not skew.is_cpu:
        # A second derivative is asked for, which the operator has not.
        return fixed_effort_exp_along(skew.mT, grad)
    return _skew_exp_backward_op(skew, grad)


_skew_exp_op.register_autograd(_backward, setup_context=_save_inputs)

"""Errors of the Triton kernels and of the matrix exponential, against float64.

The kernels are imported where they are called: Triton may be missing, and it decides between the
GPU and its interpreter when it is first imported.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.gpu.bench import Bench, Result, attempt
from harope.rope._fast.exponential import skew_exp
from harope.rope.rotate import Layout, RotationTable
from harope.rope.rotate import rotate as rotate_formula

Shape: TypeAlias = tuple[int, int, int, int]
"""Samples, heads, tokens, head_dim."""
TableKind: TypeAlias = Literal["shared", "head", "sample", "both"]
"""What has its own rotation table: nothing, each head, each sample, or each head of each sample."""
Queries: TypeAlias = Float[Tensor, "batch heads tokens head_dim"]
Matrices: TypeAlias = Float[Tensor, "heads head_dim head_dim"]

TABLE_KINDS: tuple[TableKind, ...] = ("shared", "head", "sample", "both")
LAYOUTS: tuple[Layout, ...] = ("interleaved", "half")
EPS = 1e-5
"""Epsilon of QK-norm where errors are measured."""
MANY_SAMPLES = 19
"""More samples than a gradient of a shared table has partial sums (16)."""


@dataclass(frozen=True)
class Case:
    """Input of a kernel: one of its compiled variants."""

    shape: Shape
    dtype: torch.dtype = torch.bfloat16
    layout: Layout = "interleaved"
    table: TableKind = "shared"
    backward: bool = True
    """Whether the gradients are measured as well."""

    @property
    def head_dim(self) -> int:
        """Number of channels of a head, the last axis."""
        return self.shape[-1]

    @property
    def variant(self) -> str:
        """Channels, dtype and layout, such as "64 bfloat16 half"."""
        return f"{self.head_dim} {dtype_name(self.dtype)} {self.layout}"


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype without the module.

    Args:
        dtype: For instance `torch.float32`.

    Returns:
        For instance "float32".
    """
    return str(dtype).removeprefix("torch.")


def random_qk(shape: Shape, dtype: torch.dtype, device: torch.device) -> tuple[Queries, Queries]:
    """Sample queries and keys as views of a packed projection, as attention gets them.

    Args:
        shape: Shape of each.
        dtype: Their dtype.
        device: Their device.

    Returns:
        Views of one tensor (batch, tokens, 3, heads, head_dim).
    """
    batch, heads, tokens, head_dim = shape
    qkv = torch.randn(batch, tokens, 3, heads, head_dim, device=device).to(dtype)
    q, k, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return q, k


def random_table(kind: TableKind, shape: Shape, device: torch.device) -> RotationTable:
    """Sample a rotation table.

    Args:
        kind: What has a table of its own.
        shape: Shape of the queries.
        device: Its device.

    Returns:
        Cosines and sines in float32.
    """
    batch, heads, tokens, head_dim = shape
    sizes = {
        "shared": (tokens, head_dim // 2),
        "head": (heads, tokens, head_dim // 2),
        "sample": (batch, 1, tokens, head_dim // 2),
        "both": (batch, heads, tokens, head_dim // 2),
    }
    angles = 7 * torch.randn(sizes[kind], device=device)
    return RotationTable(angles.cos(), angles.sin())


def random_matrices(shape: Shape, device: torch.device) -> tuple[Matrices, Matrices]:
    """Sample the matrices of the heads.

    Args:
        shape: Shape of the queries.
        device: Their device.

    Returns:
        A_q and A_k in float32, leaves with gradients, which roughly preserve the norm of vectors.
    """
    _, heads, _, d = shape
    a_q, a_k = torch.randn(2, heads, d, d, device=device) / d**0.5
    return as_leaf(a_q), as_leaf(a_k)


def as_leaf(x: Tensor) -> Tensor:
    """Return a tensor with the same memory that records gradients.

    Args:
        x: Values.

    Returns:
        Leaf of a new graph, with the strides of x.
    """
    return x.detach().requires_grad_()


FLOAT32_SUMS = 3 * torch.finfo(torch.float32).eps
"""Error of sums in float32, relative to the largest value."""
BFLOAT16_PIECES = 2.0**-16
"""Error of products of two numbers in bfloat16 per operand, likewise."""


def roundings(
    outputs: Sequence[Tensor], exact: Sequence[Tensor], floor: float = FLOAT32_SUMS
) -> float:
    """Compare the outputs of a kernel with exact values.

    Args:
        outputs: Tensors in the dtype of the kernel.
        exact: The same in float64.
        floor: Error that every value may have, relative to the largest.

    Returns:
        Largest error relative to eps |x| + floor max |x|, with eps of the dtype: 1 is the error of
        one rounding of the exact values.
    """
    errors = []
    for x, expected in zip(outputs, exact, strict=True):
        bound = torch.finfo(x.dtype).eps * expected.abs() + floor * expected.abs().max()
        errors.append(((x.double() - expected).abs() / bound).max())
    return torch.stack(errors).max().item()


def relative_error(gradients: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Compare gradients with exact values.

    Args:
        gradients: Gradients of a kernel.
        exact: The same in float64.

    Returns:
        Largest error relative to the largest entry of its tensor.
    """
    errors = [
        (x.double() - expected).abs().max() / expected.abs().max()
        for x, expected in zip(gradients, exact, strict=True)
    ]
    return torch.stack(errors).max().item()


def rotation_accuracy(bench: Bench) -> Result:
    """Measure the errors of the rotation kernel for all dtypes, layouts and kinds of tables.

    Args:
        bench: Device.

    Returns:
        Largest error in roundings, see `roundings`, and the cases that failed or are above 1.
    """
    errors = {
        f"{case.variant} {case.table}": attempt(partial(_rotation_error, bench, case))
        for case in _rotation_cases(bench.tiny)
    }
    return {
        "worst_roundings": _worst(errors.values()),
        "wrong_or_failed": {
            name: error
            for name, error in errors.items()
            if isinstance(error, str) or not error <= 1
        },
    }


def rotation_gradients(bench: Bench) -> Result:
    """Measure the errors of the gradients of queries, keys and rotation tables in float32.

    Args:
        bench: Device.

    Returns:
        Largest error relative to the largest entry, and the cases that failed or reach 1e-5.
    """
    errors = {
        f"{case.head_dim} {case.table} {case.layout}": attempt(
            partial(_rotation_gradient_error, bench, case)
        )
        for case in _gradient_cases(bench.tiny)
    }
    return {
        "worst_relative": _worst(errors.values()),
        "wrong_or_failed": {
            name: error
            for name, error in errors.items()
            if isinstance(error, str) or not error < 1e-5
        },
    }


def normed_accuracy(bench: Bench) -> Result:
    """Measure the errors of the kernel of QK-norm, matrix and rotation.

    Args:
        bench: Device.

    Returns:
        Errors of each case, see `normed_error`; error messages; seconds with compilation.
    """
    cases = (
        Case((2, 3, 131, 32)),
        Case((2, 12, 256, 64)),
        Case((2, 3, 131, 64), torch.float32, "half", backward=False),
        Case((2, 24, 512, 128), backward=False),
    )
    errors: dict[str, list[float | None]] = {}
    failed: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for case in cases[:1] if bench.tiny else cases:
        began = time.monotonic()
        found = attempt(partial(normed_error, bench, case))
        if isinstance(found, str):
            failed[case.variant] = found
        else:
            errors[case.variant] = found
        seconds[case.variant] = round(time.monotonic() - began, 1)
    return {"roundings_and_gradient": errors, "failed": failed, "seconds": seconds}


def normed_error(bench: Bench, case: Case) -> list[float | None]:
    """Measure the errors of the kernel of QK-norm, matrix and rotation for one case.

    Args:
        bench: Device.
        case: Its input.

    Returns:
        Error of the outputs in roundings, see `roundings`, and error of the gradients relative to
        the largest entry, None without a backward pass.
    """
    from harope.rope._fast.triton import normed_qk

    q, k = map(as_leaf, random_qk(case.shape, case.dtype, bench.device))
    matrices = random_matrices(case.shape, bench.device)
    cos, sin = random_table(case.table, case.shape, bench.device)
    interleaved = case.layout == "interleaved"
    outputs = normed_qk(q, k, *matrices, cos, sin, eps=EPS, interleaved=interleaved)
    leaves = [as_leaf(x.double()) for x in (q, k, *matrices)]
    exact = []
    for x, a in zip(leaves[:2], leaves[2:], strict=True):
        unit = x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()
        exact.append(rotate_formula(unit @ a.mT, cos.double(), sin.double(), case.layout))
    floor = FLOAT32_SUMS if case.dtype == torch.float32 else BFLOAT16_PIECES
    error = round(roundings(outputs, exact, floor), 2)
    if not case.backward:
        return [error, None]
    weights = [torch.randn_like(x) for x in outputs]
    gradients = torch.autograd.grad(outputs, (q, k, *matrices), weights)
    expected = torch.autograd.grad(exact, leaves, [w.double() for w in weights])
    return [error, float(f"{relative_error(gradients, expected):.2g}")]


def exponential(bench: Bench) -> Result:
    """Measure the matrix exponential, which TF32 must not make less exact.

    Args:
        bench: Device.

    Returns:
        Errors by `torch.set_float32_matmul_precision`, and times of the matrices of one step of
        DiT-B/2, with those of `torch.linalg.matrix_exp` for comparison.
    """
    count, d = (4, 16) if bench.tiny else (288, 64)
    skew = torch.randn(count, d, d, device=bench.device)
    skew = (skew - skew.mT) / (2 * (2 * d) ** 0.5)
    found: Result = {}
    before = torch.get_float32_matmul_precision()
    try:
        for precision in ("highest", "high"):
            torch.set_float32_matmul_precision(precision)
            found[precision] = _exponential_errors(skew)
    finally:
        torch.set_float32_matmul_precision(before)
    leaf = as_leaf(skew.clone())

    def forward_and_backward() -> None:
        skew_exp(leaf).sum().backward()
        leaf.grad = None

    found["ms, forward and backward"] = bench.milliseconds(forward_and_backward)
    with torch.no_grad():
        found["ms of torch.linalg.matrix_exp, forward"] = bench.milliseconds(
            lambda: torch.linalg.matrix_exp(skew), most=20
        )
    return found


def _rotation_cases(tiny: bool) -> Iterator[Case]:
    # Every variant takes about a second to compile, so not all are combined.
    for d in (32, 64) if tiny else (16, 32, 48, 64, 72, 80, 96, 128, 256):
        dtypes = (torch.float32, torch.bfloat16, torch.float16) if d == 64 else (torch.bfloat16,)
        layouts = LAYOUTS if d in (64, 72) else LAYOUTS[:1]
        tables = TABLE_KINDS if d == 64 else TABLE_KINDS[:1]
        for dtype, layout, table in product(dtypes, layouts, tables):
            yield Case((2, 3, 67, d), dtype, layout, table)


def _gradient_cases(tiny: bool) -> Iterator[Case]:
    head_dims = (64,) if tiny else (64, 72, 128)
    for d, table, layout in product(head_dims, TABLE_KINDS, LAYOUTS):
        batch = MANY_SAMPLES if table in ("shared", "head") else 3
        yield Case((batch, 3, 67, d), torch.float32, layout, table)


def _rotation_error(bench: Bench, case: Case) -> float:
    from harope.rope._fast.triton import rotate_qk

    qk = random_qk(case.shape, case.dtype, bench.device)
    cos, sin = random_table(case.table, case.shape, bench.device)
    outputs = rotate_qk(*qk, cos, sin, interleaved=case.layout == "interleaved")
    exact = [rotate_formula(x.double(), cos.double(), sin.double(), case.layout) for x in qk]
    return roundings(outputs, exact)


def _rotation_gradient_error(bench: Bench, case: Case) -> float:
    from harope.rope._fast.triton import rotate_qk

    q, k = random_qk(case.shape, case.dtype, bench.device)
    cos, sin = random_table(case.table, case.shape, bench.device)
    leaves = [as_leaf(x) for x in (q, k, cos, sin)]
    weights = [torch.randn_like(x) for x in (q, k)]
    outputs = rotate_qk(*leaves, interleaved=case.layout == "interleaved")
    gradients = torch.autograd.grad(outputs, leaves, weights)
    wide = [as_leaf(x.double()) for x in leaves]
    wide_cos, wide_sin = wide[2:]
    exact = [rotate_formula(x, wide_cos, wide_sin, case.layout) for x in wide[:2]]
    expected = torch.autograd.grad(exact, wide, [w.double() for w in weights])
    return relative_error(gradients, expected)


@torch.no_grad()
def _exponential_errors(skew: Matrices) -> dict[str, float]:
    found = skew_exp(skew).double()
    identity = torch.eye(skew.shape[-1], device=skew.device, dtype=torch.float64)
    return {
        "not orthogonal by": (found @ found.mT - identity).abs().max().item(),
        "error": (found - torch.linalg.matrix_exp(skew.double())).abs().max().item(),
    }


def _worst(errors: Iterable[float | str]) -> float:
    return max((error for error in errors if not isinstance(error, str)), default=0.0)

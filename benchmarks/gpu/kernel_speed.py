"""Times of the Triton kernels, compared with copies of the same tensors and plain PyTorch."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from benchmarks.gpu.bench import Bench, Result, attempt
from benchmarks.gpu.comparisons import eager_normed, peer_works
from benchmarks.gpu.kernels import (
    Case,
    Shape,
    as_leaf,
    dtype_name,
    normed_error,
    random_matrices,
    random_qk,
    random_table,
)
from harope.rope import normed_rotate_qk, rotate
from harope.rope._fast.availability import SWITCH
from harope.rope.rotate import rotate as rotate_formula

SHAPES: dict[str, Shape] = {
    "dit-b 16": (16, 12, 256, 64),
    "flux 8": (8, 24, 4608, 128),
    "dit-b 256": (256, 12, 256, 64),
    "dit-xl 64 (72)": (64, 16, 256, 72),
}
"""Queries of models: DiT-B/2 with 16 and 256 images, FLUX at 1024 pixels, DiT-XL/2."""
TINY_SHAPES: dict[str, Shape] = {"tiny": (1, 2, 64, 32)}
FLOAT32_SHAPE = "dit-b 256"
"""The shape that is measured in float32 as well."""
NORMED_HEAD_DIMS = (32, 64, 128)
"""Sizes of heads for which the kernel of QK-norm is timed."""
EPS = 1e-6
"""Epsilon of QK-norm in FLUX."""


@contextmanager
def without_kernels() -> Iterator[None]:
    """Let the package compute by PyTorch operations alone."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "0"
    try:
        yield
    finally:
        del os.environ[SWITCH]
        if before is not None:
            os.environ[SWITCH] = before


def kernel_speed(bench: Bench) -> Result:
    """Time the rotation of queries and keys.

    Args:
        bench: Device.

    Returns:
        By shape and dtype, and by implementation: milliseconds, and GB/s with each of q and k read
        and written once, whose limit is the speed of "copy".
    """
    found: Result = {}
    for title, shape in (TINY_SHAPES if bench.tiny else SHAPES).items():
        for dtype in (torch.bfloat16, torch.float32):
            if dtype == torch.bfloat16 or title == FLOAT32_SHAPE:
                found[f"{title} {dtype_name(dtype)}"] = _rotation_times(bench, shape, dtype)
    return found


def normed_backward(bench: Bench) -> Result:
    """Measure error and time of the backward kernel of QK-norm for FLUX.

    Its kernels take a few seconds to compile.

    Args:
        bench: Device.

    Returns:
        Errors, see `benchmarks.gpu.kernels.normed_error`; seconds with compilation; milliseconds
        of the kernel and of plain PyTorch.
    """
    from harope.rope._fast.triton import normed_qk

    began = time.monotonic()
    # Both shapes use the same compiled kernel.
    found: Result = {"against float64": normed_error(bench, Case((2, 24, 512, 128)))}
    found["seconds of the first call"] = round(time.monotonic() - began, 1)
    shape: Shape = (8, 24, 4608, 128)
    q, k = map(as_leaf, random_qk(shape, torch.bfloat16, bench.device))
    matrices = random_matrices(shape, bench.device)
    table = random_table("shared", shape, bench.device)
    gradients = [torch.randn(shape, device=bench.device).bfloat16() for _ in range(2)]

    def kernel() -> None:
        outputs = normed_qk(q, k, *matrices, *table, eps=EPS, interleaved=True)
        torch.autograd.grad(outputs, (q, k, *matrices), gradients)

    def plain() -> None:
        with without_kernels():
            outputs = normed_rotate_qk(q, k, table, matrices, eps=EPS)
            torch.autograd.grad(outputs, (q, k, *matrices), gradients)

    for title, work in (("kernel", kernel), ("plain torch", plain)):
        milliseconds = bench.milliseconds(work, most=10)
        found[f"{title}, forward and backward, ms"] = round(milliseconds, 3)
    return found


def _rotation_times(bench: Bench, shape: Shape, dtype: torch.dtype) -> Result:
    works = _rotations(bench, shape, dtype) | peer_works(bench, shape, dtype)
    if "normed kernel, packed" in works:
        works["normed eager torch, packed"] = eager_normed(bench, shape, dtype)
    # Queries and keys are each read once and written once.
    size = 4 * torch.Size(shape).numel() * dtype.itemsize
    found: Result = {
        name: attempt(partial(_throughput, bench, work, size)) for name, work in works.items()
    }
    found["learned table, forward and backward"] = attempt(
        partial(_learned_table_time, bench, shape, dtype)
    )
    return found


def _rotations(bench: Bench, shape: Shape, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """Return the implementations to compare, which share their inputs."""
    from harope.rope._fast.triton import normed_qk, rotate_qk

    q, k = random_qk(shape, dtype, bench.device)
    dense_q, dense_k = q.contiguous(), k.contiguous()
    cos, sin = random_table("shared", shape, bench.device)

    def eager() -> None:
        with without_kernels():
            rotate(q, cos, sin)
            rotate(k, cos, sin)

    target_q, target_k = torch.empty_like(dense_q), torch.empty_like(dense_k)
    works: dict[str, Callable[[], object]] = {
        "copy": lambda: (target_q.copy_(dense_q), target_k.copy_(dense_k)),
        "copy of packed": lambda: (target_q.copy_(q), target_k.copy_(k)),
        "kernel, packed": lambda: rotate_qk(q, k, cos, sin, interleaved=True),
        "kernel, dense": lambda: rotate_qk(dense_q, dense_k, cos, sin, interleaved=True),
        "kernel, dense, half": lambda: rotate_qk(dense_q, dense_k, cos, sin, interleaved=False),
        "eager torch": eager,
    }
    if not bench.tiny:
        compiled = torch.compile(rotate_formula, dynamic=False)
        works["compiled"] = lambda: [compiled(x, cos, sin, "interleaved") for x in (q, k)]
    if shape[-1] in NORMED_HEAD_DIMS and dtype == torch.bfloat16:
        a_q, a_k = random_matrices(shape, bench.device)
        works["normed kernel, packed"] = lambda: normed_qk(
            q, k, a_q, a_k, cos, sin, eps=EPS, interleaved=True
        )
    return works


@torch.no_grad()
def _throughput(bench: Bench, work: Callable[[], object], size: int) -> Result:
    milliseconds = bench.milliseconds(work)
    return {"ms": round(milliseconds, 4), "gb_per_s": round(size / milliseconds / 1e6)}


def _learned_table_time(bench: Bench, shape: Shape, dtype: torch.dtype) -> Result:
    from harope.rope._fast.triton import rotate_qk

    q, k = map(as_leaf, random_qk(shape, dtype, bench.device))
    cos, sin = map(as_leaf, random_table("shared", shape, bench.device))
    gradients = [torch.randn(shape, device=bench.device).to(dtype) for _ in range(2)]

    def work() -> None:
        outputs = rotate_qk(q, k, cos, sin, interleaved=True)
        torch.autograd.grad(outputs, (q, k, cos, sin), gradients)

    return {"ms": round(bench.milliseconds(work), 4)}

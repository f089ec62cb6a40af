"""Other kernels and plain PyTorch, which the Triton kernels are compared with."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import torch
from torch.nn import functional as F

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.kernels import (
    Matrices,
    Queries,
    Shape,
    random_matrices,
    random_qk,
    random_table,
)
from harope.lab.bench.rotation import GPU_PEERS
from harope.rope import RotationTable
from harope.rope.rotate import rotate as rotate_formula

Work = Callable[[], object]
EPS = 1e-6
"""Epsilon of QK-norm in FLUX."""


def peer_works(bench: Bench, shape: Shape, dtype: torch.dtype) -> dict[str, Work]:
    """Return the rotations by the installed libraries that have kernels for GPUs.

    Args:
        bench: Device.
        shape: Shape of queries and keys.
        dtype: Their dtype.

    Returns:
        Functions by name of the library; none on a CPU.
    """
    if not bench.on_gpu:
        return {}
    queries = [x.contiguous() for x in random_qk(shape, dtype, bench.device)]
    angles = 7 * torch.rand(shape[2], shape[3] // 2, device=bench.device)
    return {
        name: partial(_call_all, [make(x, angles) for x in queries])
        for name, (package, make) in GPU_PEERS.items()
        if find_spec(package)
    }


def eager_normed(bench: Bench, shape: Shape, dtype: torch.dtype) -> Work:
    """Return norm, matrix and rotation of queries and keys in plain PyTorch.

    Args:
        bench: Device.
        shape: Shape of queries and keys.
        dtype: Their dtype.

    Returns:
        Function that computes both.
    """
    queries = random_qk(shape, dtype, bench.device)
    matrices = random_matrices(shape, bench.device)
    table = random_table("shared", shape, bench.device)
    return partial(
        _call_all,
        [partial(_normed, x, a, table) for x, a in zip(queries, matrices, strict=True)],
    )


def _normed(x: Queries, matrices: Matrices, table: RotationTable) -> Queries:
    unit = F.rms_norm(x.float(), x.shape[-1:], eps=EPS)
    return rotate_formula(unit @ matrices.mT, *table, "interleaved").to(x.dtype)


def _call_all(works: Sequence[Work]) -> None:
    for work in works:
        work()

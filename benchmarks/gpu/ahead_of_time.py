"""Compile the Triton kernels for GPUs that are not here, and count what the machine code uses.

The launchers are called with tensors of the meta device and a driver without a device, so that
kernels are specialised as in a real launch, compiled, and not run. Triton must not be imported
before with `TRITON_INTERPRET=1`, so tests start this module as a process of its own.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

Memory: TypeAlias = Literal["packed", "tokens", "heads"]
"""Queries as a view of (B, N, 3, H, D), of (B, N, H, D), or contiguous (B, H, N, D)."""
Kernel: TypeAlias = Literal["rotate", "table", "normed", "normed_inputs", "normed_matrices"]

SHARED_MEMORY = {
    75: 65536,
    80: 166912,
    86: 101376,
    89: 101376,
    90: 232448,
    100: 232448,
    120: 101376,
}
"""Bytes that one program may use, by architecture."""
ARCHITECTURES = (80, 89, 90, 100, 120)
EPS = 1e-6
HEAD_DIMS = (48, 64, 72, 80, 88, 96, 128, 256)


@dataclass(frozen=True)
class Case:
    """One launch to compile."""

    kernel: Kernel
    head_dim: int
    memory: Memory = "packed"
    dtype: str = "bfloat16"
    layout: Literal["interleaved", "half"] = "interleaved"


@dataclass(frozen=True)
class Usage:
    """What one compiled kernel uses."""

    case: Case
    architecture: int
    registers: int
    """Per thread."""
    stack: int
    """Bytes of local memory per thread: 0 unless registers are spilled."""
    shared: int
    """Bytes of shared memory per program."""
    warps: int
    loads: dict[int, int]
    """Instructions that load from global memory, by bits per thread."""
    stores: dict[int, int]
    products: dict[str, int]
    """Instructions of tensor cores, by name."""
    instructions: int
    seconds: float
    """Processor time of the compilation, which other work on the machine does not change."""


class _Driver:
    """Driver of Triton for an architecture, without a device."""

    launcher_cls = None

    def __init__(self) -> None:
        self.architecture = 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self) -> int:
        # Triton keeps compiled kernels by device.
        return self.architecture

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)


class Compiler:
    """Compiles launches; from its creation on, no kernel of this process is run."""

    def __init__(self) -> None:
        from triton.runtime import JITFunction, driver

        self._compiled: list[Any] = []
        self._driver = _Driver()
        driver.set_active(self._driver)
        original = JITFunction.run

        def compile_only(function: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
            compiled = original(function, *args, grid=grid, warmup=True, **options)
            self._compiled.append(compiled)
            return compiled

        JITFunction.run = compile_only

    def usage(self, architecture: int, case: Case) -> Usage | None:
        """Compile the kernel of one launch.

        Args:
            architecture: Compute capability times ten, such as 90.
            case: The launch.

        Returns:
            What the machine code uses; None if the package has no kernel for this case.
        """
        began = _processor_time()
        self._compiled.clear()
        self._driver.architecture = architecture
        if not _launch(case, architecture):
            return None
        (compiled,) = self._compiled
        seconds = round(_processor_time() - began, 2)
        registers, stack = _resources(compiled.asm["cubin"])
        code = compiled.asm["ptx"]
        return Usage(
            case,
            architecture,
            registers,
            stack,
            compiled.metadata.shared,
            compiled.metadata.num_warps,
            _widths(code, "ld"),
            _widths(code, "st"),
            dict(Counter(re.findall(r"\b(wgmma\.mma_async|tcgen05\.mma|mma\.sync)\b", code))),
            len(re.findall(r"^\s+(?:@%?\w+ )?[a-z][\w.]+[ \t].*;", code, re.MULTILINE)),
            seconds,
        )


def _processor_time() -> float:
    """Return the seconds of this process and of the assemblers that it started."""
    return sum(os.times()[:4])


def _launch(case: Case, architecture: int) -> bool:
    from harope.rope._fast.triton import rotate

    interleaved = case.layout == "interleaved"
    q, k = _heads(case.memory, case.head_dim, case.dtype)
    grad_q, grad_k = _heads("tokens", case.head_dim, case.dtype)
    cos = sin = torch.empty(1, 1, q.shape[2], case.head_dim // 2, device="meta")
    if case.kernel == "rotate":
        rotate.launch_rotation(q, k, cos, sin, interleaved, False)
    if case.kernel == "table":
        rotate.launch_table_gradient(q, k, grad_q, grad_k, cos, interleaved)
    if case.kernel.startswith("normed"):
        return _launch_normed(case, q, k, architecture)
    return True


def _launch_normed(case: Case, q: Tensor, k: Tensor, architecture: int) -> bool:
    from harope.rope._fast.triton import qk_norm_kernels, tiles

    try:
        found = tiles.tiles_for(
            architecture, SHARED_MEMORY[architecture], case.head_dim, getattr(torch, case.dtype)
        )
    except tiles.NoKernelError:
        return False
    cos = sin = torch.empty(1, 1, q.shape[2], case.head_dim // 2, device="meta")
    inputs = qk_norm_kernels.NormedInputs.of(q, k, cos, sin, EPS, case.layout == "interleaved")
    grad_q, grad_k = _heads("tokens", case.head_dim, case.dtype)
    matrix = torch.empty(q.shape[1], case.head_dim, case.head_dim, device="meta")
    if case.kernel == "normed":
        qk_norm_kernels.launch_normed(inputs, matrix, matrix, found.forward)
    if case.kernel == "normed_inputs":
        qk_norm_kernels.launch_input_gradient(
            inputs, grad_q, grad_k, matrix, matrix, found.input_gradient
        )
    if case.kernel == "normed_matrices":
        qk_norm_kernels.launch_matrix_gradient(inputs, grad_q, grad_k, found.matrix_gradient)
    return True


def _heads(memory: Memory, head_dim: int, dtype: str) -> tuple[Tensor, Tensor]:
    """Return queries and keys without memory, (16, 12, 256, head_dim)."""
    shape, kind = (16, 256, 12, head_dim), getattr(torch, dtype)
    if memory == "packed":
        batch, tokens, heads, _ = shape
        packed = torch.empty(batch, tokens, 3, heads, head_dim, dtype=kind, device="meta")
        q, k, _ = packed.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k
    q, k = (torch.empty(shape, dtype=kind, device="meta").transpose(1, 2) for _ in range(2))
    return (q, k) if memory == "tokens" else (q.contiguous(), k.contiguous())


def _resources(cubin: bytes) -> tuple[int, int]:
    """Return the registers and the bytes of stack of a thread."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-res-usage", file.name]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"REG:(\d+) STACK:(\d+)", out)[-1]
    return int(found[0]), int(found[1])


def _widths(code: str, direction: str) -> dict[int, int]:
    """Count accesses to global memory by the bits that one thread moves."""
    widths: Counter[int] = Counter()
    for vector, bits in re.findall(
        rf"\b{direction}\.global[.\w:]*?(?:\.v(\d))?\.[bfsu](\d+)\s", code
    ):
        widths[int(vector or 1) * int(bits)] += 1
    return dict(widths)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sm", type=int, nargs="+", default=ARCHITECTURES)
    parser.add_argument("--kernels", nargs="+", default=get_args(Kernel), choices=get_args(Kernel))
    parser.add_argument("--head-dims", type=int, nargs="+", default=HEAD_DIMS)
    parser.add_argument("--memory", nargs="+", default=get_args(Memory), choices=get_args(Memory))
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"])
    parser.add_argument("--layouts", nargs="+", default=["interleaved", "half"])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON object per launch and architecture.

    Args:
        arguments: Of the command line; None for those of the process.
    """
    parsed = _arguments(arguments)
    axes = (parsed.kernels, parsed.head_dims, parsed.memory, parsed.dtypes, parsed.layouts)
    cases = [Case(*values) for values in product(*axes)]
    compiler = Compiler()
    for architecture, case in product(parsed.sm, cases):
        usage = compiler.usage(architecture, case)
        missing = f"no kernel for sm_{architecture}: {case}"
        found = {"no kernel": missing} if usage is None else asdict(usage)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    # Kernels are to be compiled, and the times of compilation measured.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        main()

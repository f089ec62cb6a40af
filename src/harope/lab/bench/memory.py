"""Peak memory of the tensors that a workload creates."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from harope.lab.bench.timing import Workload


def peak_bytes(workload: Workload, device: str = "cpu") -> int:
    """Run a workload and return the peak memory of the tensors that it creates, in bytes.

    On the CPU, only the results of operators count, not their internal buffers; on a GPU, the
    allocator counts both.

    Args:
        workload: Workload to measure.
        device: Device that it runs on: `cpu` or `cuda`.

    Returns:
        Number of bytes.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        workload()
        return torch.cuda.max_memory_allocated() - before
    with _LiveStorages() as storages:
        workload()
    return storages.peak


class _LiveStorages(TorchDispatchMode):
    """Counter of the bytes in storages that operators created and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.peak = 0, 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        before = {_key(value) for value in tree_iter((args, kwargs)) if _is_tensor(value)}
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if _is_tensor(value) and _key(value) not in before | self._seen:
                self._add(value)
        return out

    def _add(self, value: torch.Tensor) -> None:
        storage, key = value.untyped_storage(), _key(value)
        size = storage.nbytes()
        self._seen.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.bytes -= size


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _key(value: torch.Tensor) -> int:
    return value.untyped_storage()._cdata

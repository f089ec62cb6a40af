"""Tensors that FSDP2 divides among processes (DTensors), and their pieces."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def is_sharded(value: Tensor) -> bool:
    """Return whether a tensor is a DTensor, whose import is slow."""
    return hasattr(value, "full_tensor")


def full_tensor(value: Tensor) -> Tensor:
    """Gather a tensor from all processes, which must all call it.

    Args:
        value: Any tensor.

    Returns:
        The complete tensor; the tensor itself if it is not sharded.
    """
    sharded: Any = value
    return sharded.full_tensor() if is_sharded(value) else value


def local_tensor(value: Tensor) -> Tensor:
    """Return the piece of a tensor that this process has.

    Args:
        value: Any tensor.

    Returns:
        A tensor that shares its memory; the tensor itself if it is not sharded.
    """
    sharded: Any = value
    return sharded.to_local() if is_sharded(value) else value


def shard_like(values: Mapping[str, Tensor], references: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Shard complete tensors like others of the same name; every process must call it.

    Args:
        values: Complete tensors, the same in every process.
        references: Tensors of the same names and shapes, sharded or not.

    Returns:
        The tensors, sharded where the reference is.
    """
    if not any(map(is_sharded, references.values())):
        return dict(values)
    from torch.distributed.tensor import distribute_tensor

    result = {}
    for name, value in values.items():
        reference: Any = references.get(name, value)
        if is_sharded(reference) and not is_sharded(value):
            value = distribute_tensor(
                value.to(reference.device), reference.device_mesh, reference.placements
            )
        result[name] = value
    return result

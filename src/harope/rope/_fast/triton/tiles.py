"""Sizes of the programs of the kernels of QK-norm, by GPU."""

from functools import cache
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.errors import TritonError


class NoKernelError(TritonError):  # type: ignore[misc]
    """There is no kernel for a size of heads, a dtype or a GPU."""


class Tile(NamedTuple):
    """Size of the programs of one kernel."""

    tokens: int
    """Tokens per block."""
    warps: int
    """Warps per program."""


class NormedTiles(NamedTuple):
    """Sizes for the three kernels, and what they need."""

    forward: Tile
    input_gradient: Tile
    matrix_gradient: Tile
    shared: int
    """Bytes of shared memory of the largest program."""


# By dtype, and channels rounded up to a power of two. Compiled for sm_80, 89, 90, 100 and 120, none
# of these spills registers; larger blocks do, and on sm_80, 89 and 120 so do all sizes for 128
# channels in float32. Two matrices of 256 channels do not fit into the memory of any GPU.

# sm_90 multiplies blocks of 64 rows, by operands in shared memory.
_HOPPER = {
    (torch.bfloat16, 64): NormedTiles(*3 * (Tile(64, 8),), 41_000),
    (torch.bfloat16, 128): NormedTiles(Tile(64, 8), Tile(64, 4), Tile(64, 8), 106_500),
    (torch.float16, 64): NormedTiles(*3 * (Tile(64, 8),), 49_200),
    (torch.float16, 128): NormedTiles(Tile(64, 8), Tile(64, 4), Tile(64, 8), 131_100),
    (torch.float32, 64): NormedTiles(Tile(64, 8), Tile(64, 8), Tile(32, 8), 73_800),
    (torch.float32, 128): NormedTiles(Tile(32, 8), Tile(64, 8), Tile(32, 8), 196_700),
}
# sm_100 and 110 have their sums in memory of their own.
_BLACKWELL = {
    **_HOPPER,
    (torch.bfloat16, 64): NormedTiles(Tile(64, 8), Tile(64, 8), Tile(32, 8), 41_000),
    (torch.bfloat16, 128): NormedTiles(Tile(128, 8), Tile(64, 4), Tile(64, 8), 106_500),
}
# Others multiply blocks of 16 rows, by operands in registers.
_AMPERE = {
    (torch.bfloat16, 64): NormedTiles(*3 * (Tile(32, 4),), 24_600),
    (torch.bfloat16, 128): NormedTiles(Tile(32, 8), Tile(16, 4), Tile(32, 8), 73_800),
    (torch.float16, 64): NormedTiles(*3 * (Tile(32, 4),), 28_700),
    (torch.float16, 128): NormedTiles(Tile(16, 4), Tile(16, 4), Tile(16, 8), 102_400),
    (torch.float32, 64): NormedTiles(*3 * (Tile(16, 4),), 41_000),
}


def normed_tiles(x: Tensor) -> NormedTiles:
    """Return the sizes for queries or keys.

    Args:
        x: Queries or keys.

    Raises:
        NoKernelError: If there is no kernel for their GPU, dtype or head_dim.
    """
    if x.device.type == "cpu":
        # The interpreter has no limits.
        return NormedTiles(*3 * (Tile(64, 4),), 0)
    return _device_tiles(x.device, x.shape[-1], x.dtype)


@cache
def _device_tiles(device: torch.device, head_dim: int, dtype: torch.dtype) -> NormedTiles:
    if torch.version.hip is not None:
        raise NoKernelError("this kernel was compiled for NVIDIA GPUs only")
    major, minor = torch.cuda.get_device_capability(device)
    # Not in the stubs of PyTorch.
    properties: Any = torch.cuda.get_device_properties(device)
    shared = properties.shared_memory_per_block_optin
    return tiles_for(10 * major + minor, shared, head_dim, dtype)


def tiles_for(architecture: int, shared: int, head_dim: int, dtype: torch.dtype) -> NormedTiles:
    """Return the sizes for an architecture.

    Args:
        architecture: Compute capability times ten, such as 90.
        shared: Bytes of shared memory that a program may use.
        head_dim: Channels per head.
        dtype: Of queries and keys.

    Raises:
        NoKernelError: If there is no kernel for the architecture, dtype or head_dim.
    """
    if architecture < 80:
        raise NoKernelError(f"sm_{architecture} has no products of bfloat16")
    family = _AMPERE
    if 90 <= architecture < 100:
        family = _HOPPER
    elif 100 <= architecture < 120:
        family = _BLACKWELL
    tiles = family.get((dtype, max(64, triton.next_power_of_2(head_dim))))
    if tiles is None:
        raise NoKernelError(f"its matrix does not fit into a program of sm_{architecture}")
    if tiles.shared > shared:
        raise NoKernelError(
            f"it needs {tiles.shared} bytes of shared memory, and sm_{architecture} has {shared}"
        )
    return tiles

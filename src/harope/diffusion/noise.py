"""Noise that depends on the seed of each sample and not on the batch."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from harope._utils.argument_checks import check_integer, check_sequence, check_sizes
from harope._utils.devices import copy_to_device


class SampleNoise:
    """A stream of standard normal batches in which row i depends only on `seeds[i]`.

    Each seed has its own CPU generator, so a seed gives the same sample whatever the batch size,
    the device and the number of processes (as in EDM2, Karras et al. 2024, arXiv 2312.02696).

    Args:
        seeds: One seed per sample.
        shape: Shape of one sample, (channels, height, width).
        device: Device of the batches.
        dtype: Dtype of the batches; noise is sampled in float32 and then cast.

    Raises:
        ValueError: If `seeds` is empty or has a seed that is not a whole number in
            -2^63 .. 2^64 - 1, or if `shape` is not a tuple of whole numbers.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_sequence("seeds", seeds)
        check_sizes("shape", shape, 0)
        if len(seeds) == 0:
            raise ValueError("seeds is empty: give one seed per sample")
        for seed in seeds:
            check_integer("seeds", seed, -(2**63))
            if seed >= 2**64:
                raise ValueError(f"seeds must be below 2^64, got {seed}")
        self.shape = tuple(shape)
        self.device = torch.device(device)
        self.dtype = dtype
        self._generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def next(self) -> Float[Tensor, "batch *shape"]:
        """Sample the next batch, (batch, *shape)."""
        rows = [torch.randn(self.shape, generator=generator) for generator in self._generators]
        return copy_to_device(torch.stack(rows), self.device).to(self.dtype)

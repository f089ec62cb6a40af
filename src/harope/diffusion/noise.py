"""Noise that belongs to the sample, not to the batch."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class SampleNoise:
    """A stream of standard normal batches in which row i depends on `seeds[i]` alone.

    Whatever the batch size, the device or the number of processes, a seed gives one sample
    (the rule of EDM2, arXiv 2312.02696): every seed has its own generator, on the CPU.

    Args:
        seeds: one per sample.
        shape: of one sample, (channels, height, width).
        device: where the batches are wanted.
        dtype: of the batches; the noise is drawn in float32 and then cast.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if len(seeds) == 0:
            raise ValueError("seeds is empty: give one seed per sample")
        self.shape = tuple(shape)
        self.device = torch.device(device)
        self.dtype = dtype
        self._generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def next(self) -> Float[Tensor, "batch *shape"]:
        """Draw the next batch."""
        rows = [torch.randn(self.shape, generator=generator) for generator in self._generators]
        return torch.stack(rows).to(device=self.device, dtype=self.dtype)

"""Isolation of global random generators: code inside cannot change the numbers drawn outside."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def isolated_torch_rng(seed: int | None = None) -> Iterator[None]:
    """Restore torch's CPU generator on exit.

    Generators of GPUs are neither saved nor seeded: saving them would initialise CUDA, and what
    runs inside must therefore draw on the CPU.

    Args:
        seed: Seed of the generator inside the block. By default it continues from its state.
    """
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            # torch.manual_seed would seed the GPUs as well, and that would outlast the block.
            torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def isolated_numpy_rng(seed: int | Sequence[int]) -> Iterator[None]:
    """Seed numpy's global generator inside the block and restore it on exit.

    Args:
        seed: Entropy for `numpy.random.SeedSequence`; several integers are mixed.
    """
    state = np.random.get_state()
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))
    try:
        yield
    finally:
        np.random.set_state(state)

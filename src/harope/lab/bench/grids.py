"""Grids of sizes: growth of the cost of a rotation with tokens, batch size and heads."""

from collections.abc import Callable

import torch

from harope.lab.bench.rotation import complex_rotations, eager_rotations, peer_rotations
from harope.lab.bench.timing import Timing, time_interleaved

CENTER = {"batch": 4, "heads": 12, "tokens": 256}
"""Sizes around which one axis at a time is varied."""
AXES: dict[str, tuple[int, ...]] = {
    "tokens": (64, 256, 1024, 4096, 16384),
    "batch": (1, 4, 16, 64),
    "heads": (6, 12, 24, 48),
}
"""Values of each axis."""
HEAD_DIM = 64
"""Channels per head."""


def time_axis(
    axis: str, device: torch.device, log: Callable[[str], None], *, rounds: int = 7
) -> dict[int, dict[str, Timing]]:
    """Time all rotations for every value of one axis.

    Args:
        axis: Key of `AXES`.
        device: Device of the tensors.
        log: Called with a line of progress before each value is timed.
        rounds: Number of timings per rotation.

    Returns:
        Timings by value of the axis and name of the rotation.
    """
    timings = {}
    for value in AXES[axis]:
        log(f"rotations with {value:,} {axis}")
        sizes = {**CENTER, axis: value}
        x = torch.randn(sizes["batch"], sizes["heads"], sizes["tokens"], HEAD_DIM, device=device)
        angles = 10 * torch.rand(sizes["tokens"], HEAD_DIM // 2, device=device)
        rotations = eager_rotations(x, angles)
        rotations |= peer_rotations(x, angles) | complex_rotations(x, angles)
        repeats = max(1, 2**22 // x.numel())
        timings[value] = time_interleaved(rotations, rounds=rounds, repeats=repeats)
    return timings

"""How the cost of a rotation grows with tokens, batch and heads."""

import torch

from harope.lab.bench.rotation import complex_rotations, eager_rotations, peer_rotations
from harope.lab.bench.timing import Timing, time_interleaved

# One axis at a time, around 4 samples of 12 heads of 256 tokens with 64 channels.
START = {"batch": 4, "heads": 12, "tokens": 256}
AXES: dict[str, tuple[int, ...]] = {
    "tokens": (64, 256, 1024, 4096, 16384),
    "batch": (1, 4, 16, 64),
    "heads": (6, 12, 24, 48),
}
HEAD_DIM = 64


def sweep(axis: str, device: torch.device, rounds: int = 7) -> dict[int, dict[str, Timing]]:
    """Timings of every rotation for every value of one axis."""
    out = {}
    for value in AXES[axis]:
        sizes = {**START, axis: value}
        x = torch.randn(sizes["batch"], sizes["heads"], sizes["tokens"], HEAD_DIM, device=device)
        angles = 10 * torch.rand(sizes["tokens"], HEAD_DIM // 2, device=device)
        works = eager_rotations(x, angles) | peer_rotations(x, angles) | complex_rotations(x, angles)
        repeats = max(1, 2**22 // x.numel())
        out[value] = time_interleaved(works, rounds=rounds, repeats=repeats)
    return out

"""Golden gate RoPE against vit-pytorch's."""

import pytest
import torch
from vit_pytorch.vit_nd_rotary import GoldenGateRoPENd

from harope.rope import create_encoding


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_golden_gate_rope(num_axes):
    theirs = GoldenGateRoPENd(num_axes, 3, 16, rope_min_freq=0.5, rope_max_freq=30.0)
    ours = create_encoding(
        "golden",
        num_heads=3,
        head_dim=16,
        num_axes=num_axes,
        positions="index",
        min_frequency=0.5,
        max_frequency=30.0,
    )
    vectors = ours.frequencies.wave_vectors(torch.device("cpu"))
    # Their root of g^(n + 1) = g + 1 is off by 3e-6 for one axis and 4e-8 for two, which the steep
    # ends of erfinv enlarge.
    torch.testing.assert_close(vectors, theirs.freqs.movedim(-1, 0), rtol=3e-5, atol=1e-4)
    positions = 2 * torch.rand(2, 5, num_axes) - 1
    q, k = torch.randn(2, 2, 3, 5, 16)
    for x, out in zip((q, k), ours(q, k, positions), strict=True):
        torch.testing.assert_close(out, theirs(x, positions), rtol=0, atol=5e-4)

"""One-dimensional and axial rotary encodings against rotary-embedding-torch."""

import pytest
import torch
from rotary_embedding_torch import RotaryEmbedding, apply_rotary_emb

from harope.rope import Scaling, create_encoding, grid_positions

HEADS, DIM, TOKENS = 3, 16, 50


@pytest.fixture
def queries() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 2, HEADS, TOKENS, DIM)


@pytest.mark.parametrize("name", ["rope", "axial"])
@pytest.mark.parametrize("theta", [100, 10000])
def test_one_dimensional_angles_and_rotation(queries, name, theta):
    ours = create_encoding(name, num_heads=HEADS, head_dim=DIM, num_axes=1, theta=float(theta))
    theirs = RotaryEmbedding(DIM, theta=theta)
    positions = grid_positions(TOKENS)
    angles = theirs(positions[:, 0])[:, ::2]
    torch.testing.assert_close(ours.frequencies(positions), angles, rtol=3e-7, atol=0)
    for x, out in zip(queries, ours(*queries, positions), strict=True):
        expected = theirs.rotate_queries_or_keys(x)
        torch.testing.assert_close(out, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("sizes", [(5, 10), (2, 5, 5)])
def test_axial_angles_and_rotation(queries, sizes):
    axes = len(sizes)
    dim = 6 * axes
    ours = create_encoding("axial", num_heads=HEADS, head_dim=dim, num_axes=axes)
    angles = RotaryEmbedding(6).get_axial_freqs(*sizes).flatten(0, -2)
    positions = grid_positions(*sizes)
    torch.testing.assert_close(ours.frequencies(positions), angles[:, ::2], rtol=3e-7, atol=0)
    q, k = torch.randn(2, 2, HEADS, TOKENS, dim)
    for x, out in zip((q, k), ours(q, k, positions), strict=True):
        torch.testing.assert_close(out, apply_rotary_emb(angles, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "option"), [("ntk", "theta_rescale_factor"), ("interpolate", "interpolate_factor")]
)
def test_scaling(queries, method, option):
    ours = create_encoding("rope", num_heads=HEADS, head_dim=DIM, num_axes=1)
    ours.frequencies.set_scaling(Scaling(method=method, train_sizes=(20,), sizes=(TOKENS,)))
    theirs = RotaryEmbedding(DIM, **{option: TOKENS / 20})
    for x, out in zip(queries, ours(*queries, grid_positions(TOKENS)), strict=True):
        expected = theirs.rotate_queries_or_keys(x)
        torch.testing.assert_close(out, expected, rtol=0, atol=2e-5)

"""Norm, matrix and rotation in one call."""

import pytest
import torch

from harope.rope import grid_positions
from harope.rope._fast.dispatch import normed_rotate_qk
from support.encoding import make, randomise

HEADS, DIM = 3, 8


def inputs(dtype=torch.float64):
    torch.manual_seed(0)
    q, k = torch.randn(2, 2, HEADS, 6, DIM).to(dtype)
    weights = tuple((1 + 0.3 * torch.randn(2, DIM)).to(dtype))
    return q, k, weights


def by_definition(encoding, q, k, positions, weights, eps):
    normed = [
        x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight
        for x, weight in zip((q, k), weights, strict=True)
    ]
    return encoding(*normed, positions)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize("options", [{}, {"pairing": "inverse"}, {"per_head": False}], ids=str)
def test_it_is_the_norm_and_then_the_encoding(options, layout):
    encoding = make("harope", HEADS, DIM, layout=layout, **options).double()
    q, k, weights = inputs()
    positions = grid_positions(2, 3).double()
    ours = normed_rotate_qk(
        q, k, encoding.rotation_table(positions), encoding.matrices(),
        weights=weights, eps=1e-3, layout=layout,
    )  # fmt: skip
    torch.testing.assert_close(ours, by_definition(encoding, q, k, positions, weights, 1e-3))


def test_without_matrices_and_weights_it_is_the_bare_norm_and_the_rotation():
    encoding = make("axial", HEADS, DIM)
    q, k, _ = inputs()
    positions = grid_positions(2, 3).double()
    ones = torch.ones(2, DIM, dtype=torch.float64)
    ours = normed_rotate_qk(q, k, encoding.rotation_table(positions))
    torch.testing.assert_close(ours, by_definition(encoding, q, k, positions, ones, 1e-6))


def test_half_precision_is_rounded_once():
    encoding = make("harope", HEADS, DIM)
    q, k, weights = inputs(torch.bfloat16)
    table, matrices = encoding.rotation_table(grid_positions(2, 3)), encoding.matrices()
    wide = normed_rotate_qk(
        q.float(), k.float(), table, matrices, weights=tuple(w.float() for w in weights)
    )
    ours = normed_rotate_qk(q, k, table, matrices, weights=weights)
    for mine, expected in zip(ours, wide, strict=True):
        assert torch.equal(mine, expected.bfloat16())


def test_gradients_are_those_of_finite_differences():
    encoding = make("harope", 1, 4).double()
    randomise(encoding, 0.3)
    torch.manual_seed(0)
    q, k = (torch.randn(1, 1, 2, 4, dtype=torch.float64, requires_grad=True) for _ in "qk")
    gammas = [torch.ones(4, dtype=torch.float64, requires_grad=True) for _ in "qk"]
    matrices = [m.detach().clone().requires_grad_() for m in encoding.matrices()]
    table = encoding.rotation_table(grid_positions(1, 2).double())

    def run(q, k, *rest):
        return normed_rotate_qk(q, k, table, rest[:2], weights=rest[2:])

    assert torch.autograd.gradcheck(run, (q, k, *matrices, *gammas))

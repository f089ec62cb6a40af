"""Norm, matrix and rotation in one call, and when kernels compute them."""

import pytest
import torch
from jaxtyping import TypeCheckError

from harope.rope import grid_positions
from harope.rope._fast import dispatch
from harope.rope._fast.dispatch import normed_rotate_qk, rotate, rotate_qk
from harope.rope.rotate import RotationTable
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


@pytest.fixture
def launches(monkeypatch):
    """Calls of the kernels, which run in Triton's interpreter as if on a GPU."""
    from harope.rope._fast import triton

    names = []

    def record(name):
        kernel = getattr(triton, name)
        return lambda *args, **options: names.append(name) or kernel(*args, **options)

    for name in ("rotate_one", "rotate_qk", "normed_qk"):
        monkeypatch.setattr(triton, name, record(name))
    monkeypatch.setattr(dispatch, "uses_triton", lambda x: True)
    return names


@pytest.mark.parametrize("shape", [(6,), (HEADS, 6), (2, 1, 6), (2, HEADS, 6)])
def test_queries_alone_are_rotated_by_the_kernel(launches, monkeypatch, shape):
    q, _, _ = inputs(torch.float32)
    leaves = [part.requires_grad_() for part in (q, *table_of(*shape))]
    results = []
    for uses in (True, False):
        monkeypatch.setattr(dispatch, "uses_triton", lambda x, uses=uses: uses)
        out = rotate(*leaves)
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    torch.testing.assert_close(*results)
    assert launches == ["rotate_one"]


def table_of(*shape):
    return RotationTable(*torch.randn(2, *shape, DIM // 2))


def test_kernels_are_used_where_the_shapes_fit(launches):
    q, k, _ = inputs(torch.float32)
    for shape in [(6,), (1, 6), (HEADS, 6), (1, 1, 6), (2, 1, 6), (2, HEADS, 6)]:
        rotate_qk(q, k, table_of(*shape))
    rotate_qk(q, k[:, :2], table_of(6))
    normed_rotate_qk(q, k, table_of(6))
    assert launches == 7 * ["rotate_qk"] + ["normed_qk"]


@pytest.mark.parametrize("shape", [(5,), (7,), (2, 6), (3, 1, 6)])
def test_tables_of_other_tokens_heads_or_samples_are_refused(launches, shape):
    q, k, _ = inputs(torch.float32)
    for function in (rotate_qk, normed_rotate_qk):
        # Annotations are checked in tests alone.
        with pytest.raises((ValueError, TypeCheckError)):
            function(q, k, table_of(*shape))
    assert not launches


def test_what_a_kernel_does_not_compute_is_left_to_the_formula(launches):
    q, k, _ = inputs(torch.float32)
    learned = RotationTable(*(part.requires_grad_() for part in table_of(6)))
    normed_rotate_qk(q, k, learned)
    normed_rotate_qk(q.double(), k.double(), table_of(6))
    assert launches == 2 * ["rotate_qk"]
    rotate_qk(q, k.double(), table_of(6))
    assert launches[2:] == 2 * ["rotate_one"]


def test_matrices_of_other_heads_are_refused(launches):
    q, k, _ = inputs(torch.float32)
    with pytest.raises((ValueError, TypeCheckError)):
        normed_rotate_qk(q, k, table_of(6), 2 * (torch.ones(2, DIM, DIM),))
    assert not launches

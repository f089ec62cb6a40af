"""Bases: the matrices of each family in closed form."""

import math

import pytest
import torch
from torch.nn import functional as F

from harope.rope.basis import (
    SVD,
    Basis,
    Diagonal,
    Free,
    Identity,
    Orthogonal,
    apply_matrices,
    fold_projection,
    num_skew_entries,
    orthogonal_from_entries,
    skew_entries,
    skew_matrix,
)
from harope.rope.circulant import Circulant, Fourier
from harope.rope.rotate import rotate, rotation_table
from support.encoding import randomise

HEADS, DIM = 3, 6
DIMS = [1, 2, 3, 8]
LEARNED = [
    Diagonal(HEADS, DIM),
    Diagonal(HEADS, DIM, pairing="inverse"),
    Orthogonal(HEADS, DIM),
    Orthogonal(HEADS, DIM, orthogonal_map="cayley"),
    SVD(HEADS, DIM),
    SVD(HEADS, DIM, pairing="inverse"),
    SVD(HEADS, DIM, orthogonal_map="cayley"),
    Free(HEADS, DIM),
    Free(HEADS, DIM, pairing="inverse"),
]


def moved(basis: Basis) -> Basis:
    randomise(basis)
    return basis.double()


@pytest.mark.parametrize("basis", LEARNED)
def test_learned_bases_start_at_the_identity(basis):
    for matrix in basis():
        torch.testing.assert_close(matrix, torch.eye(DIM).expand(HEADS, -1, -1), rtol=0, atol=2e-7)


def test_identity_has_no_matrices():
    assert Identity()() is None


@pytest.mark.parametrize("pairing", ["same", "inverse"])
def test_diagonal_holds_softplus_of_its_parameters(pairing):
    basis = moved(Diagonal(HEADS, DIM, pairing=pairing))
    scale = torch.log1p(basis.raw_scale.exp())
    a_q, a_k = basis()
    torch.testing.assert_close(a_q, torch.diag_embed(scale))
    expected = torch.diag_embed(1 / scale) if pairing == "inverse" else a_q
    torch.testing.assert_close(a_k, expected)


@pytest.mark.parametrize("orthogonal_map", ["exp", "cayley"])
def test_orthogonal_gives_both_sides_the_rotation_of_its_generator(orthogonal_map):
    basis = moved(Orthogonal(HEADS, DIM, orthogonal_map=orthogonal_map))
    skew, eye = skew_matrix(basis.skew, DIM), torch.eye(DIM, dtype=torch.float64)
    if orthogonal_map == "exp":
        expected = torch.linalg.matrix_exp(skew)
    else:
        expected = (eye - skew) @ torch.linalg.inv(eye + skew)
    for matrix in basis():
        torch.testing.assert_close(matrix, expected)


@pytest.mark.parametrize("pairing", ["same", "inverse"])
@pytest.mark.parametrize("orthogonal_map", ["exp", "cayley"])
def test_svd_is_u_diag_s_v_transposed(pairing, orthogonal_map):
    basis = moved(SVD(HEADS, DIM, pairing=pairing, orthogonal_map=orthogonal_map))
    u = orthogonal_from_entries(basis.skew_u, DIM, orthogonal_map)
    v = orthogonal_from_entries(basis.skew_v, DIM, orthogonal_map)
    scale = torch.log1p(basis.raw_scale.exp())
    a_q, a_k = basis()
    torch.testing.assert_close(a_q, torch.einsum("hij,hj,hkj->hik", u, scale, v))
    expected = torch.einsum("hij,hj,hkj->hik", u, 1 / scale, v) if pairing == "inverse" else a_q
    torch.testing.assert_close(a_k, expected)


def test_singular_values_are_softplus_of_the_raw_scales():
    basis = moved(SVD(HEADS, DIM))
    values = torch.linalg.svdvals(basis()[0]).sort().values
    torch.testing.assert_close(values, F.softplus(basis.raw_scale).sort().values)


def test_free_is_its_parameter():
    basis = moved(Free(HEADS, DIM, pairing="same"))
    for matrix in basis():
        assert torch.equal(matrix, basis.matrix)


@pytest.mark.parametrize("family", [Diagonal, SVD, Free])
def test_inverse_pairing_gives_keys_the_inverse_transpose(family):
    a_q, a_k = moved(family(HEADS, DIM, pairing="inverse"))()
    eye = torch.eye(DIM, dtype=torch.float64).expand(HEADS, -1, -1)
    torch.testing.assert_close(a_q.mT @ a_k, eye)


@pytest.mark.parametrize("family", [Diagonal, SVD])
def test_regularization_is_the_mean_squared_logarithm_of_the_scales(family):
    basis = moved(family(2, 4))
    scales = [math.log1p(math.exp(raw)) for raw in basis.raw_scale.flatten().tolist()]
    expected = sum(math.log(scale) ** 2 for scale in scales) / 8
    assert basis.regularization().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("family", [Diagonal, SVD])
def test_singular_values_are_those_of_the_matrix(family):
    basis = moved(family(HEADS, DIM))
    found, _ = basis.singular_values().detach().sort(descending=True)
    torch.testing.assert_close(found, torch.linalg.svdvals(basis()[0].detach()))


def test_bases_without_scales_have_no_singular_values():
    for basis in (Identity(), Orthogonal(HEADS, DIM), Free(HEADS, DIM)):
        assert basis.singular_values() is None


@pytest.mark.parametrize("family", [Diagonal, SVD])
def test_regularization_starts_at_zero_and_pulls_scales_to_one(family):
    basis = family(2, 4)
    assert basis.regularization().item() < 1e-13
    with torch.no_grad():
        basis.raw_scale.fill_(2.0)
    basis.regularization().backward()
    assert (basis.raw_scale.grad > 0).all()


@pytest.mark.parametrize("basis", [Identity(), Orthogonal(2, 4), Free(2, 4), Fourier(4)])
def test_bases_without_scales_have_no_regularization(basis):
    assert basis.regularization() is None


@pytest.mark.parametrize("basis", LEARNED)
def test_matrices_of_half_precision_parameters_are_computed_in_float32(basis):
    randomise(basis.float())
    expected = basis.bfloat16().float()()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        matrices = basis.bfloat16()()
    for ours, wanted in zip(matrices, expected, strict=True):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("dim", [2, 4, 10])
def test_fourier_is_orthogonal(dim):
    matrix, _ = Fourier(dim)()
    torch.testing.assert_close(matrix[0] @ matrix[0].T, torch.eye(dim), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 4, 6, 10])
@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_circulant_over_fourier_is_the_matrix_exponential(dim, num_axes):
    frequencies, (basis, _) = Circulant(dim, num_axes, num_heads=HEADS), Fourier(dim)()
    randomise(frequencies, 0.5)
    position, x = torch.randn(1, num_axes), torch.randn(HEADS, 1, dim)
    table = rotation_table(frequencies(position))
    ours = rotate(x @ basis.mT, *table) @ basis
    rows, columns = torch.arange(dim)[:, None], torch.arange(dim)
    for head in range(HEADS):
        circulants = frequencies.columns.detach().double()[:, head, (rows - columns) % dim]
        generator = (position.double()[0, :, None, None] * (circulants - circulants.mT)).sum(0)
        expected = torch.linalg.matrix_exp(generator) @ x[head, 0].double()
        torch.testing.assert_close(ours[head, 0].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dim", DIMS)
def test_skew_matrix_is_skew_and_holds_its_entries_above_the_diagonal(dim):
    entries = torch.randn(3, num_skew_entries(dim))
    matrix = skew_matrix(entries, dim)
    assert torch.equal(matrix, -matrix.mT)
    above = torch.ones(dim, dim).triu(1).bool()
    assert torch.equal(matrix[:, above], entries)


@pytest.mark.parametrize("dim", DIMS)
def test_skew_entries_undo_skew_matrix(dim):
    entries = torch.randn(2, num_skew_entries(dim))
    assert torch.equal(skew_entries(skew_matrix(entries, dim)), entries)


def test_skew_entries_ignore_the_symmetric_part():
    matrix = torch.randn(2, 5, 5, dtype=torch.float64)
    symmetric = torch.randn(5, 5, dtype=torch.float64)
    moved = skew_entries(matrix + symmetric + symmetric.T)
    torch.testing.assert_close(moved, skew_entries(matrix))
    torch.testing.assert_close(skew_matrix(moved, 5), (matrix - matrix.mT) / 2)


def test_exponential_of_three_entries_is_rodrigues_rotation():
    a, b, c = -0.4, 0.9, 1.7
    # S v = axis x v has S_01 = -z, S_02 = y, S_12 = -x.
    axis = torch.tensor([-c, b, -a], dtype=torch.float64)
    angle = axis.norm()
    unit = axis / angle
    vector = torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64)
    turned = (
        vector * angle.cos()
        + torch.linalg.cross(unit, vector) * angle.sin()
        + unit * (unit @ vector) * (1 - angle.cos())
    )
    entries = torch.tensor([a, b, c], dtype=torch.float64)
    torch.testing.assert_close(orthogonal_from_entries(entries, 3, "exp") @ vector, turned)


def test_cayley_is_i_minus_s_times_the_inverse_of_i_plus_s():
    entries = torch.randn(4, num_skew_entries(6), dtype=torch.float64)
    skew, eye = skew_matrix(entries, 6), torch.eye(6, dtype=torch.float64)
    expected = (eye - skew) @ torch.linalg.inv(eye + skew)
    torch.testing.assert_close(orthogonal_from_entries(entries, 6, "cayley"), expected)


@pytest.mark.parametrize("orthogonal_map", ["exp", "cayley"])
@pytest.mark.parametrize("dim", DIMS)
def test_both_maps_give_rotations(orthogonal_map, dim):
    entries = 2 * torch.randn(3, num_skew_entries(dim))
    matrix = orthogonal_from_entries(entries, dim, orthogonal_map)
    eye = torch.eye(dim).expand(3, -1, -1)
    torch.testing.assert_close(matrix @ matrix.mT, eye, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("orthogonal_map", ["exp", "cayley"])
def test_no_rotation_is_exactly_the_identity(orthogonal_map):
    matrix = orthogonal_from_entries(torch.zeros(2, 6), 4, orthogonal_map)
    assert torch.equal(matrix, torch.eye(4).expand(2, -1, -1))


@pytest.mark.parametrize("orthogonal_map", ["exp", "cayley"])
def test_bfloat16_entries_are_computed_in_float32(orthogonal_map):
    entries = torch.randn(2, 6).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        matrix = orthogonal_from_entries(entries, 4, orthogonal_map)
    assert torch.equal(matrix, orthogonal_from_entries(entries.float(), 4, orthogonal_map))


def test_matrices_are_applied_head_by_head():
    x, matrices = torch.randn(2, 3, 5, 4), torch.randn(3, 4, 4)
    expected = torch.einsum("hij,bhtj->bhti", matrices, x)
    torch.testing.assert_close(apply_matrices(x, matrices), expected)


def test_one_matrix_serves_all_heads():
    x, matrix = torch.randn(2, 3, 5, 4), torch.randn(1, 4, 4)
    torch.testing.assert_close(apply_matrices(x, matrix), apply_matrices(x, matrix.repeat(3, 1, 1)))


def test_half_precision_tokens_meet_float32_matrices():
    x, matrices = torch.randn(2, 3, 5, 4).bfloat16(), torch.randn(3, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = apply_matrices(x, matrices)
    assert torch.equal(out, apply_matrices(x.float(), matrices).bfloat16())


@pytest.mark.parametrize("num_matrices", [1, 3])
@pytest.mark.parametrize("num_heads", [None, 3])
def test_folded_projection_is_a_times_the_projection(num_matrices, num_heads):
    weight, bias = torch.randn(12, 7), torch.randn(12)
    matrices, x = torch.randn(num_matrices, 4, 4), torch.randn(5, 7)
    folded_weight, folded_bias = fold_projection(weight, bias, matrices, num_heads)
    projected = torch.nn.functional.linear(x, weight, bias).unflatten(-1, (3, 4))
    expected = torch.einsum("hij,thj->thi", matrices.expand(3, 4, 4), projected)
    ours = torch.nn.functional.linear(x, folded_weight, folded_bias)
    torch.testing.assert_close(ours, expected.flatten(1), rtol=1e-5, atol=1e-5)


def test_a_projection_without_bias_stays_without():
    weight, matrices = torch.randn(6, 5), torch.randn(2, 3, 3)
    folded, bias = fold_projection(weight, None, matrices)
    assert bias is None
    torch.testing.assert_close(folded, torch.block_diag(*matrices) @ weight)


def test_gradients_reach_weight_bias_and_matrices():
    shapes = [(6, 5), (6,), (2, 3, 3)]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(fold_projection, tensors)


def test_half_precision_weights_are_folded_in_float32_and_keep_their_dtype():
    weight, bias = torch.randn(6, 5).bfloat16(), torch.randn(6).bfloat16()
    matrices = torch.randn(2, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        folded = fold_projection(weight, bias, matrices)
    exact = fold_projection(weight.float(), bias.float(), matrices)
    for ours, expected in zip(folded, exact, strict=True):
        assert torch.equal(ours, expected.bfloat16())


@pytest.mark.parametrize(("rows", "num_heads"), [(10, None), (10, 2), (12, 4), (6, 1)])
def test_rows_must_be_heads_times_channels(rows, num_heads):
    matrices = torch.randn(3, 4, 4)
    with pytest.raises(ValueError, match=r"pass the projection of the same heads") as error:
        fold_projection(torch.randn(rows, 5), None, matrices, num_heads)
    assert f"weight has {rows} rows but matrices of shape (3, 4, 4)" in str(error.value)


def test_a_shared_matrix_must_divide_the_rows():
    with pytest.raises(ValueError, match=r"weight has 10 rows .* need 2 x 4"):
        fold_projection(torch.randn(10, 5), None, torch.randn(1, 4, 4))


@pytest.mark.parametrize("orthogonal_map", ["exp", "cayley"])
@pytest.mark.parametrize("norm", [10.0, 1e3, 1e6, 1e8])
@pytest.mark.parametrize("dim", [2, 8, 64])
def test_large_generators_give_orthogonal_matrices(orthogonal_map, norm, dim):
    entries = torch.randn(2, num_skew_entries(dim))
    # Planes of very different angles are the hardest case of the linear solve.
    entries[:, 0] *= 1e-3
    entries *= norm / torch.linalg.matrix_norm(skew_matrix(entries, dim), 2).amax()
    entries.requires_grad_()
    matrix = orthogonal_from_entries(entries, dim, orthogonal_map)
    eye = torch.eye(dim).expand(2, -1, -1)
    torch.testing.assert_close(matrix @ matrix.mT, eye, rtol=0, atol=1e-5)
    matrix.square().mul(torch.rand_like(matrix)).sum().backward()
    assert entries.grad.isfinite().all()


@pytest.mark.parametrize("orthogonal_map", ["exp", "cayley"])
def test_generators_beyond_float64_are_refused(orthogonal_map):
    with pytest.raises(ValueError, match=r"norm 2e\+10.*lower the learning rate"):
        orthogonal_from_entries(torch.tensor([[2e10]]), 2, orthogonal_map)


@pytest.mark.parametrize("family", [Diagonal, SVD])
@pytest.mark.parametrize("raw", [-50.0, -200.0, -1e10])
def test_regularization_is_finite_where_scales_underflow(family, raw):
    basis = family(2, 4)
    with torch.no_grad():
        basis.raw_scale[0, 0] = raw
    penalty = basis.regularization()
    torch.testing.assert_close(penalty, torch.tensor(raw**2 / 8))
    penalty.backward()
    torch.testing.assert_close(basis.raw_scale.grad[0, 0], torch.tensor(raw / 4))
    assert basis.raw_scale.grad.isfinite().all()


def test_regularization_is_continuous_where_the_logarithm_becomes_linear():
    basis = Diagonal(1, 3).double()
    with torch.no_grad():
        basis.raw_scale[:] = -40 + torch.tensor([-1e-9, 0.0, 1e-9]).double()
    basis.regularization().backward()
    torch.testing.assert_close(basis.raw_scale.grad, torch.full((1, 3), -80 / 3).double())

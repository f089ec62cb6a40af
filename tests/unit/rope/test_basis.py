"""Bases: the matrices of each family in closed form."""

import math

import pytest
import torch
from torch.nn import functional as F

from harope.rope.basis import SVD, Basis, Diagonal, Fourier, Free, Identity, Orthogonal
from harope.rope.circulant import Circulant
from harope.rope.orthogonal import orthogonal_from_entries, skew_matrix
from harope.rope.rotate import rotate, rotation_table
from support.encoding import randomise

HEADS, DIM = 3, 6
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

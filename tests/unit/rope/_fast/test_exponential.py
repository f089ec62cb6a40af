"""The exponential of skew matrices."""

import pytest
import torch

from harope.rope._fast.exponential import skew_exp
from harope.rope.basis import num_skew_entries, skew_matrix


def skew(dim: int, scale: float, dtype=torch.float64, count: int = 3) -> torch.Tensor:
    torch.manual_seed(dim)
    return skew_matrix(scale * torch.randn(count, num_skew_entries(dim), dtype=dtype), dim)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("dim", [2, 3, 16, 64])
def test_it_is_as_exact_as_the_norm_allows(dim, scale, dtype):
    matrix = skew(dim, scale, dtype)
    # i S is Hermitian: its eigenvalues and vectors are exact to a few roundings.
    values, vectors = torch.linalg.eigh(1j * matrix.double())
    exact = (vectors * torch.exp(-1j * values)[:, None]) @ vectors.mH
    # Rounding of the input alone moves the result by eps times the norm.
    size = torch.finfo(dtype).eps * max(1.0, values.abs().max().item())
    assert (skew_exp(matrix) - exact.real).abs().max() <= 16 * size


def test_a_half_turn():
    turn = torch.tensor([[0.0, torch.pi], [-torch.pi, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(skew_exp(turn), -torch.eye(2, dtype=torch.float64))


def test_first_and_second_derivatives():
    matrix = skew(4, 1.0, count=2).requires_grad_()
    assert torch.autograd.gradcheck(skew_exp, matrix)
    assert torch.autograd.gradgradcheck(skew_exp, matrix)


@pytest.mark.parametrize("norm", [0.005, 0.1, 0.5, 1.0, 3.0])
def test_gradients_in_float32_are_exact_to_a_few_roundings_for_every_degree(norm):
    matrix = skew(16, 1.0)
    matrix *= norm / torch.linalg.matrix_norm(matrix, 2).max()
    grad, gradients = torch.randn(3, 16, 16, dtype=torch.float64), []
    for run, dtype in ((skew_exp, torch.float32), (torch.linalg.matrix_exp, torch.float64)):
        own = matrix.to(dtype).requires_grad_()
        gradients += torch.autograd.grad(run(own), own, grad.to(dtype))
    error = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert error <= 8 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("scale", [0.01, 2.0])
def test_the_operator_for_compilers_has_the_same_values_and_gradients(scale):
    matrix, grad = skew(6, scale).requires_grad_(), torch.randn(3, 6, 6, dtype=torch.float64)
    results = []
    for run in (skew_exp, torch.ops.harope.skew_exp):
        out = run(matrix)
        results.append([out, *torch.autograd.grad(out, matrix, grad)])
    torch.testing.assert_close(*results)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operator_keeps_its_promises_to_compilers():
    torch.library.opcheck(torch.ops.harope.skew_exp, (skew(4, 0.5).requires_grad_(),))


def test_function_transforms_work():
    matrix = skew(4, 0.5)
    each = torch.vmap(skew_exp)(matrix)
    torch.testing.assert_close(each, skew_exp(matrix))


def test_nothing_but_nan_comes_of_nan():
    matrix = skew(4, 0.5)
    matrix[0, 0, 1] = torch.nan
    assert skew_exp(matrix)[0].isnan().any()


def test_shapes_are_known_without_values():
    assert skew_exp(torch.zeros(2, 4, 4, device="meta")).shape == (2, 4, 4)


def test_an_empty_batch_stays_empty():
    assert skew_exp(torch.zeros(0, 4, 4)).shape == (0, 4, 4)

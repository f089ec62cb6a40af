"""The exponential of skew matrices."""

import pytest
import torch

from harope.rope._fast.exponential import (
    fixed_effort_exp,
    fixed_effort_exp_along,
    skew_exp,
)
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


@pytest.mark.parametrize("dim", [2, 16, 64])
@pytest.mark.parametrize("norm", [0.0, 1e-6, 1e-3, 0.3, 1.0, 3.0, 10.0, 50.0, 1e3, 1e6])
def test_the_form_for_gpus_is_as_exact_in_float32_as_the_norm_allows(dim, norm):
    matrix = skew(dim, 1.0)
    matrix = (matrix * norm / torch.linalg.matrix_norm(matrix, 2)[:, None, None]).float()
    own = matrix.double().requires_grad_()
    exact, grad = torch.linalg.matrix_exp(own), torch.randn(3, dim, dim)
    (expected,) = torch.autograd.grad(exact, own, grad.double())
    rounding = torch.finfo(torch.float32).eps * max(1.0, norm)
    found = fixed_effort_exp(matrix)
    assert (found - exact).abs().max() <= 2 * rounding
    assert (found @ found.mT - torch.eye(dim)).abs().max() <= 1e-5
    gradient = fixed_effort_exp_along(matrix.mT, grad)
    assert (gradient - expected).norm() <= 2 * rounding * expected.norm()


def test_the_form_for_gpus_keeps_the_digits_of_small_generators():
    matrix = skew(16, 1e-9).float()
    step = fixed_effort_exp(matrix) - torch.eye(16)
    # Off the diagonal nothing is added to them.
    off = ~torch.eye(16, dtype=torch.bool)
    torch.testing.assert_close(step[:, off], matrix[:, off], rtol=1e-5, atol=0)


def test_the_form_for_gpus_shows_norms_beyond_its_accuracy():
    matrix = skew(4, 1.0).float()
    matrix[0] *= 1e9
    found = fixed_effort_exp(matrix)
    assert found[0].isnan().all()
    assert found[1:].isfinite().all()


def test_the_form_for_gpus_has_first_and_second_derivatives():
    matrix = skew(4, 1.0, count=2).requires_grad_()
    grad = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fixed_effort_exp, matrix)
    assert torch.autograd.gradcheck(lambda s, g: fixed_effort_exp_along(s.mT, g), (matrix, grad))

"""A basis applied to tokens, or to the projection before them."""

import pytest
import torch

from harope.rope import apply_matrices, fold_projection


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

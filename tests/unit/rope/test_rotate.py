"""The rotation of channel pairs: the formula, and the form that is dispatched."""

import math

import pytest
import torch

from harope.rope import rotate as dispatched
from harope.rope import rotation_table
from harope.rope.rotate import rotate as formula


@pytest.fixture(params=[formula, dispatched], ids=["formula", "dispatched"])
def rotate(request):
    return request.param


def test_table_holds_cosines_and_sines():
    table = rotation_table(torch.tensor([[0.0, math.pi / 6]], dtype=torch.float64))
    torch.testing.assert_close(table.cos, torch.tensor([[1, 3**0.5 / 2]], dtype=torch.float64))
    torch.testing.assert_close(table.sin, torch.tensor([[0, 0.5]], dtype=torch.float64))


def test_a_quarter_turn_takes_a_b_to_minus_b_a(rotate):
    cos, sin = torch.zeros(1, 2), torch.ones(1, 2)
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert rotate(x, cos, sin, "interleaved").tolist() == [[-2, 1, -4, 3]]
    assert rotate(x, cos, sin, "half").tolist() == [[-3, -4, 1, 2]]


def test_rotation_is_multiplication_of_complex_numbers(rotate):
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    angles = torch.randn(5, 4, dtype=torch.float64)
    turned = torch.view_as_complex(x.unflatten(-1, (4, 2))) * torch.exp(1j * angles)
    expected = torch.view_as_real(turned).flatten(-2)
    torch.testing.assert_close(rotate(x, *rotation_table(angles)), expected)


def test_layouts_differ_by_the_order_of_channels_alone(rotate):
    x, angles = torch.randn(2, 3, 5, 8), torch.randn(5, 4)
    to_half = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    table = rotation_table(angles)
    expected = rotate(x, *table)[..., to_half]
    ours = rotate(x[..., to_half], *table, "half")
    # One way may fuse the sum of two products and round once less.
    torch.testing.assert_close(ours, expected, rtol=0, atol=4 * torch.finfo(x.dtype).eps)


@pytest.mark.parametrize("shape", [(5, 4), (1, 5, 4), (3, 5, 4), (2, 1, 5, 4), (2, 3, 5, 4)])
def test_tables_may_differ_by_sample_and_head(rotate, shape):
    x, angles = torch.randn(2, 3, 5, 8), torch.randn(shape)
    out = rotate(x, *rotation_table(angles))
    full = angles.expand(2, 3, 5, 4)
    for sample in range(2):
        for head in range(3):
            alone = rotate(x[sample, head], *rotation_table(full[sample, head]))
            torch.testing.assert_close(out[sample, head], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rotated_in_float32_and_rounded_once(rotate, layout, dtype):
    x, table = torch.randn(2, 5, 8).to(dtype), rotation_table(10 * torch.randn(5, 4))
    expected = rotate(x.float(), *table, layout).to(dtype)
    assert torch.equal(rotate(x, *table, layout), expected)


def test_float64_queries_are_rotated_in_float64(rotate):
    x, angles = torch.randn(5, 8, dtype=torch.float64), torch.randn(5, 4)
    table = rotation_table(angles)
    assert torch.equal(rotate(x, *table), rotate(x, table.cos.double(), table.sin.double()))


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize("learned", [False, True])
def test_both_forms_have_the_same_gradients(layout, learned):
    x, weights = torch.randn(2, 2, 3, 5, 8, dtype=torch.float64)
    angles = torch.randn(5, 4, dtype=torch.float64, requires_grad=learned)
    inputs = (x.requires_grad_(), *([angles] if learned else []))
    grads = [
        torch.autograd.grad((rotate(x, *rotation_table(angles), layout) * weights).sum(), inputs)
        for rotate in (formula, dispatched)
    ]
    torch.testing.assert_close(*grads)

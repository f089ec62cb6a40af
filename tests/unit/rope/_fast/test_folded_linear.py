"""The packed projection with the bases in its weights."""

import pytest
import torch
from torch.nn import functional as F

from harope.rope import apply_matrices
from harope.rope._fast.folded_linear import fold_layers, fold_packed, folded_linear
from support.encoding import make, randomise

HEADS, DIM, WIDTH = 2, 4, 6
CHANNELS = 3 * HEADS * DIM


def parts(dtype=torch.float64, per_head=True):
    torch.manual_seed(0)
    encoding = make("harope", HEADS, DIM, pairing="inverse", per_head=per_head).to(dtype)
    randomise(encoding, 0.4)
    matrices = [matrix.detach().clone().requires_grad_() for matrix in encoding.matrices()]
    x = torch.randn(2, 5, WIDTH, dtype=dtype, requires_grad=True)
    weight = torch.randn(CHANNELS, WIDTH, dtype=dtype, requires_grad=True)
    bias = torch.randn(CHANNELS, dtype=dtype, requires_grad=True)
    return x, weight, bias, *matrices


def by_tokens(x, weight, bias, a_q, a_k):
    q, k, v = F.linear(x, weight, bias).unflatten(-1, (3, HEADS, DIM)).permute(2, 0, 3, 1, 4)
    out = torch.stack([apply_matrices(q, a_q), apply_matrices(k, a_k), v])
    return out.permute(1, 3, 0, 2, 4).flatten(2)


def folded(x, weight, bias, a_q, a_k):
    return folded_linear(x, weight, bias, (a_q, a_k), HEADS)


def watching(kept):
    """Put every tensor that autograd keeps into a list."""
    return torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    )


@pytest.mark.parametrize("per_head", [True, False])
def test_values_and_gradients_are_those_of_the_tokens(per_head):
    inputs = parts(per_head=per_head)
    outs = [run(*inputs) for run in (folded, by_tokens)]
    torch.testing.assert_close(*outs)
    weights = torch.randn_like(outs[0])
    grads = [torch.autograd.grad((out * weights).sum(), inputs) for out in outs]
    torch.testing.assert_close(*grads)


def test_first_and_second_derivatives():
    inputs = parts()
    assert torch.autograd.gradcheck(folded, inputs)
    assert torch.autograd.gradgradcheck(folded, inputs)


def test_folded_weights_are_not_kept():
    inputs = parts()
    kept = []
    with watching(kept):
        folded(*inputs)
    _, weight, *_ = inputs
    assert [tensor is weight for tensor in kept if tensor.shape == weight.shape] == [True]
    # The only thing made: the matrices of queries and keys in one tensor.
    made = [tensor.shape for tensor in kept if not any(tensor is given for given in inputs)]
    assert made == [(2 * HEADS, *inputs[-1].shape[1:])]


def test_inputs_without_gradient_ask_for_none():
    x, weight, bias, a_q, a_k = parts()
    out = folded(x.detach(), weight.detach(), bias.detach(), a_q, a_k)
    grads = torch.autograd.grad(out.square().sum(), (a_q, a_k))
    assert all(grad.abs().max() > 0 for grad in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_computes_and_keeps_bfloat16(dtype):
    inputs = [part.detach().to(torch.float32).requires_grad_() for part in parts()]
    x = inputs[0].detach().to(dtype).requires_grad_()
    kept = []
    with torch.autocast("cpu", torch.bfloat16), watching(kept):
        out = folded(x, *inputs[1:])
    assert out.dtype == torch.bfloat16
    assert next(t for t in kept if t.shape == x.shape).dtype == torch.bfloat16
    exact = by_tokens(*inputs)
    grads = torch.autograd.grad(out.float().square().sum(), (x, *inputs[1:]))
    right = torch.autograd.grad(exact.square().sum(), inputs)
    for ours, expected in zip((out, *grads), (exact, *right), strict=True):
        assert (ours.float() - expected).norm() < 2**-5 * expected.norm()


def test_without_a_bias_there_is_none():
    _, weight, _, a_q, a_k = parts()
    assert fold_packed(weight, None, (a_q, a_k), HEADS)[1] is None


def test_function_transforms_work():
    x, *rest = parts()
    each = torch.vmap(lambda sample: folded(sample, *rest))(x)
    torch.testing.assert_close(each, folded(x, *rest))


@pytest.mark.parametrize("per_head", [True, False])
def test_layers_folded_as_one_equal_layers_one_by_one(per_head):
    layers = [parts(per_head=per_head) for _ in range(3)]
    layers = [[part.detach() * (1 + i) for part in inputs] for i, inputs in enumerate(layers)]
    layers = [[part.requires_grad_() for part in inputs] for inputs in layers]
    x, weights, biases, q, k = zip(*layers, strict=True)
    stacked = (torch.cat(q), torch.cat(k))
    together = fold_layers(weights, biases, stacked, HEADS)
    outs = [F.linear(tokens, *part) for tokens, part in zip(x, together, strict=True)]
    expected = [folded(*inputs) for inputs in layers]
    torch.testing.assert_close(outs, expected)
    leaves = [part for inputs in layers for part in inputs]
    grads = [
        torch.autograd.grad(sum(out.sin().sum() for out in result), leaves)
        for result in (outs, expected)
    ]
    torch.testing.assert_close(*grads)


def test_layers_folded_as_one_have_first_and_second_derivatives():
    _, weight, bias, q, k = parts()

    def fold_one(*inputs):
        return fold_layers([inputs[0]], [inputs[1]], inputs[2:], HEADS)[0]

    assert torch.autograd.gradcheck(fold_one, (weight, bias, q, k))
    assert torch.autograd.gradgradcheck(fold_one, (weight, bias, q, k))


def test_layers_are_folded_into_the_dtype_of_autocast():
    _, weight, bias, q, k = (part.detach().float() for part in parts())
    with torch.autocast("cpu", torch.bfloat16):
        (part,) = fold_layers([weight], [bias], (q.requires_grad_(), k), HEADS)
    assert part.weight.dtype == part.bias.dtype == torch.bfloat16
    exact = fold_packed(weight, bias, (q, k), HEADS)
    torch.testing.assert_close(part.weight, exact[0].bfloat16())
    torch.testing.assert_close(part.bias, exact[1].bfloat16())

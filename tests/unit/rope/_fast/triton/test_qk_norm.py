"""The kernel of norm, matrix and rotation in Triton's interpreter, against float64."""

import pytest
import torch
from torch import Tensor

from harope.rope._fast.triton import normed_qk, qk_norm, qk_norm_kernels
from harope.rope.rotate import rotate

EPS = 1e-5
LAYOUTS = ["interleaved", "half"]
FLOAT, HALF, BFLOAT = torch.float32, torch.float16, torch.bfloat16
# Blocks hold 64 tokens: fewer, and a full one with a rest. The interpreter is slow in half
# precision.
CASES = [
    *((head_dim, 67, FLOAT) for head_dim in (32, 48, 72, 128)),
    *((head_dim, 5, dtype) for head_dim in (64, 72, 88, 96) for dtype in (HALF, BFLOAT)),
    *((32, 67, dtype) for dtype in (HALF, BFLOAT)),
]


def exact(x: Tensor, matrix: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    x, matrix, cos, sin = (part.double() for part in (x, matrix, cos, sin))
    unit = x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()
    return rotate(unit @ matrix.mT, cos, sin, layout)


def inputs(head_dim: int, tokens: int, dtype: torch.dtype, shape: tuple[int, ...] = ()):
    torch.manual_seed(head_dim)
    qkv = torch.randn(2, tokens, 3, 2, head_dim).to(dtype).requires_grad_()
    matrices = torch.randn(2, 2, head_dim, head_dim).div(head_dim**0.5).requires_grad_()
    angles = 7 * torch.randn(*shape, tokens, head_dim // 2)
    return qkv, matrices, angles.cos(), angles.sin()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("head_dim", "tokens", "dtype"), CASES, ids=str)
def test_values_and_gradients_are_the_formula_rounded(head_dim, tokens, dtype, layout):
    qkv, matrices, cos, sin = inputs(head_dim, tokens, dtype)
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)
    ours = normed_qk(q, k, *matrices, cos, sin, eps=EPS, interleaved=layout == "interleaved")
    expected = [exact(x, m, cos, sin, layout) for x, m in zip((q, k), matrices, strict=True)]
    # Sums of head_dim products, and one rounding to the dtype. In half precision, operands are
    # sums of two numbers in bfloat16, which the interpreter truncates.
    wide = 8 * torch.finfo(torch.float32).eps if dtype == torch.float32 else 2**-14
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.dtype == dtype
        eps, size = torch.finfo(dtype).eps, theirs.abs().max().item()
        torch.testing.assert_close(mine.double(), theirs, rtol=eps, atol=wide * size)
    weights = torch.randn(2, *q.shape).to(dtype)
    grads = torch.autograd.grad(
        sum((a * w).float().sum() for a, w in zip(ours, weights, strict=True)), (qkv, matrices)
    )
    right = torch.autograd.grad(
        sum((a * w.double()).sum() for a, w in zip(expected, weights, strict=True)),
        (qkv, matrices),
    )
    for mine, theirs in zip(grads, right, strict=True):
        scale = theirs.abs().max().item()
        eps = torch.finfo(mine.dtype).eps
        torch.testing.assert_close(mine, theirs, rtol=2 * eps, atol=scale * max(4 * eps, wide))


def test_a_program_may_walk_over_several_blocks(monkeypatch):
    monkeypatch.setattr(qk_norm_kernels, "ENOUGH_PROGRAMS", 1)
    qkv, matrices, cos, sin = inputs(16, 195, torch.float32)
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)
    ours = normed_qk(q, k, *matrices, cos, sin, eps=EPS, interleaved=True)
    expected = [exact(x, m, cos, sin, "interleaved") for x, m in zip((q, k), matrices, strict=True)]
    torch.testing.assert_close([mine.double() for mine in ours], expected, rtol=0, atol=1e-5)
    grads = torch.autograd.grad(sum(mine.square().sum() for mine in ours), (qkv, matrices))
    right = torch.autograd.grad(sum(mine.square().sum() for mine in expected), (qkv, matrices))
    torch.testing.assert_close(grads, right, rtol=1e-4, atol=1e-4)


def test_a_basis_that_is_not_trained_needs_no_sums(monkeypatch):
    qkv, matrices, cos, sin = inputs(16, 5, torch.float32)
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)
    monkeypatch.setattr(qk_norm, "_matrix_gradient_op", None)
    ours = normed_qk(q, k, *matrices.detach(), cos, sin, eps=EPS, interleaved=True)
    torch.autograd.grad(ours[0].sum(), qkv)


def test_queries_keys_and_matrices_may_have_any_strides():
    q = torch.randn(2, 9, 16, 6).permute(0, 3, 1, 2)[:, ::2]
    k = torch.randn(2, 2, 9, 32)[..., ::2]
    matrices = [torch.randn(heads, 16, 16).mT for heads in (3, 2)]
    cos, sin = (torch.randn(8, 9).mT for _ in range(2))
    ours = normed_qk(q, k, *matrices, cos, sin, eps=EPS, interleaved=False)
    expected = [exact(x, m, cos, sin, "half") for x, m in zip((q, k), matrices, strict=True)]
    torch.testing.assert_close([mine.double() for mine in ours], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1,), (2,), (2, 1), (2, 2)], ids=str)
def test_tables_and_matrices_may_be_shared(shape):
    qkv, matrices, cos, sin = inputs(16, 5, torch.float32, shape)
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)
    shared = matrices[:, :1]
    ours = normed_qk(q, k, *shared, cos, sin, eps=EPS, interleaved=True)
    expected = [exact(x, m, cos, sin, "interleaved") for x, m in zip((q, k), shared, strict=True)]
    torch.testing.assert_close([mine.double() for mine in ours], expected, rtol=0, atol=1e-5)
    grads = torch.autograd.grad(sum(mine.square().sum() for mine in ours), (qkv, matrices))
    right = torch.autograd.grad(sum(mine.square().sum() for mine in expected), (qkv, matrices))
    torch.testing.assert_close(grads, right, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operator_keeps_its_promises_to_compilers():
    qkv, matrices, cos, sin = inputs(16, 5, torch.float32)
    q, k, _ = (part.detach().clone().requires_grad_() for part in qkv.permute(2, 0, 3, 1, 4))
    tables = cos[None, None].clone(), sin[None, None].clone()
    own = (part.detach().clone().requires_grad_() for part in matrices)
    torch.library.opcheck(torch.ops.harope.normed_qk, (q, k, *own, *tables, EPS, True))

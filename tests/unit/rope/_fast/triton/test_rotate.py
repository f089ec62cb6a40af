"""The rotation kernel in Triton's interpreter, against the formula in float64."""

import pytest
import torch
from torch import Tensor

from harope.rope._fast.triton import rotate_qk
from harope.rope.rotate import rotate

LAYOUTS = ["interleaved", "half"]
TABLES = [(), (1,), (3,), (2, 1), (2, 3)]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def packed(batch: int, tokens: int, heads: int, head_dim: int, dtype: torch.dtype) -> Tensor:
    """q and k as views of one projection, (2, batch, heads, tokens, head_dim)."""
    torch.manual_seed(tokens)
    return torch.randn(batch, tokens, 3, heads, head_dim).to(dtype).permute(2, 0, 3, 1, 4)[:2]


def table_of(shape: tuple[int, ...], tokens: int, head_dim: int) -> tuple[Tensor, Tensor]:
    angles = 7 * torch.randn(*shape, tokens, head_dim // 2)
    return angles.cos(), angles.sin()


def exact(x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    return rotate(x.double(), cos.double(), sin.double(), layout)


def assert_rounded(ours: Tensor, expected: Tensor, roundings: float = 1.0) -> None:
    """Equal to float64 up to roundings of the dtype, and three of float32."""
    eps = roundings * torch.finfo(ours.dtype).eps
    wide = 3 * torch.finfo(torch.promote_types(ours.dtype, torch.float32)).eps
    size = expected.abs().max().item()
    torch.testing.assert_close(ours.double(), expected, rtol=eps, atol=size * wide)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head_dim", [32, 64, 72, 80, 128, 256])
def test_values_are_the_formula_rounded(head_dim, dtype, layout):
    q, k = packed(2, 67, 3, head_dim, dtype)
    table = table_of((), 67, head_dim)
    for ours, x in zip(
        rotate_qk(q, k, *table, interleaved=layout == "interleaved"), (q, k), strict=True
    ):
        assert ours.dtype == dtype
        assert ours.is_contiguous()
        assert_rounded(ours, exact(x, *table, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", TABLES, ids=str)
def test_tables_may_be_shared_or_differ_by_sample_and_head(shape, layout):
    q, k = packed(2, 5, 3, 8, torch.float32)
    table = table_of(shape, 5, 8)
    for ours, x in zip(
        rotate_qk(q, k, *table, interleaved=layout == "interleaved"), (q, k), strict=True
    ):
        assert_rounded(ours, exact(x, *table, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", TABLES, ids=str)
def test_gradients_reach_queries_keys_and_tables(shape, layout):
    batch = 2 if len(shape) == 2 else 19  # Past the number of partial sums.
    qk = packed(batch, 5, 3, 8, torch.float32).requires_grad_()
    cos, sin = (part.requires_grad_() for part in table_of(shape, 5, 8))
    weights = torch.randn_like(qk, dtype=torch.float64)
    out = rotate_qk(qk[0], qk[1], cos, sin, interleaved=layout == "interleaved")
    ours = torch.autograd.grad((torch.stack(out) * weights).sum(), (qk, cos, sin))
    expected = torch.autograd.grad((exact(qk, cos, sin, layout) * weights).sum(), (qk, cos, sin))
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_a_fixed_table_keeps_neither_queries_nor_keys():
    qk = packed(1, 4, 2, 8, torch.float32).requires_grad_()
    q, _ = rotate_qk(qk[0], qk[1], *table_of((), 4, 8), interleaved=True)
    kept = [tensor.shape for tensor in q.grad_fn.saved_tensors]
    assert kept == [(1, 1, 4, 4), (1, 1, 4, 4)]


def test_second_derivatives():
    q, k = packed(1, 3, 1, 4, torch.float64)
    q, k = q.clone().requires_grad_(), k.clone().requires_grad_()
    cos, sin = (part.double() for part in table_of((), 3, 4))
    inputs = (q, k)

    def run(q, k):
        return rotate_qk(q, k, cos, sin, interleaved=True)

    assert torch.autograd.gradgradcheck(run, inputs)


def test_queries_and_keys_may_have_different_heads_and_any_strides():
    q = torch.randn(2, 9, 8, 6).transpose(2, 3)[:, ::2]
    k = torch.randn(2, 2, 6, 16)[..., ::2]
    table = table_of((2, 1), 6, 8)
    for ours, x in zip(rotate_qk(q, k, *table, interleaved=False), (q, k), strict=True):
        assert_rounded(ours, exact(x, *table, "half"))


def test_prefix_tokens_of_angle_zero_keep_their_bits():
    q, k = packed(2, 11, 3, 32, torch.bfloat16)
    cos, sin = table_of((), 11, 32)
    cos[:3], sin[:3] = 1, 0
    for ours, x in zip(rotate_qk(q, k, cos, sin, interleaved=True), (q, k), strict=True):
        assert torch.equal(ours[:, :, :3], x[:, :, :3])
        assert_rounded(ours, exact(x, cos, sin, "interleaved"))


def test_different_heads_with_tables_of_their_own_are_refused():
    q, k = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8)
    with pytest.raises(ValueError, match=r"q has 4 heads and k 2 but the table has 4: share it"):
        rotate_qk(q, k, *table_of((4,), 6, 8), interleaved=True)


# The check itself asks non-leaf tensors for their gradients.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operator_keeps_its_promises_to_compilers():
    q, k = (part.clone().requires_grad_() for part in packed(2, 5, 3, 8, torch.float32))
    cos, sin = (part[None, None].clone().requires_grad_() for part in table_of((), 5, 8))
    torch.library.opcheck(torch.ops.harope.rotate_qk, (q, k, cos, sin, True, False))

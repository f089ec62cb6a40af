"""Angles to cosines and sines, and the rotation of queries and keys by them."""

from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from harope.rope._fast.execution_mode import runs_eagerly, traces

Layout = Literal["interleaved", "half"]


class RotationTable(NamedTuple):
    """Cosines and sines of every token's angles.

    Shaped (tokens, pairs), (heads or 1, tokens, pairs) or (batch, heads or 1, tokens, pairs), so
    that they broadcast over queries of (batch, heads, tokens, head_dim).
    """

    cos: Float[Tensor, "*shape tokens pairs"]
    sin: Float[Tensor, "*shape tokens pairs"]


def rotation_table(angles: Float[Tensor, "*shape tokens pairs"]) -> RotationTable:
    """Cosines and sines of angles in radians, in the dtype of the angles."""
    return RotationTable(angles.cos(), angles.sin())


def rotate(
    x: Float[Tensor, "*batch tokens head_dim"],
    cos: Float[Tensor, "*shape tokens pairs"],
    sin: Float[Tensor, "*shape tokens pairs"],
    layout: Layout = "interleaved",
) -> Float[Tensor, "*batch tokens head_dim"]:
    """Rotate pair i of the channels by angle i: (a, b) -> (a cos - b sin, a sin + b cos).

        interleaved   a0 b0 a1 b1 a2 b2      pair i is the channels (2i, 2i + 1): RoFormer, FLUX
        half          a0 a1 a2 b0 b1 b2      pair i is (i, i + head_dim / 2): GPT-NeoX, LLaMA

    Computed in float32 or better, returned in the dtype of x (RoFormer, arXiv 2104.09864, eq. 15).
    """
    if traces():
        return rotate_formula(x, cos, sin, layout)
    if torch.is_grad_enabled() and (x.requires_grad or cos.requires_grad or sin.requires_grad):
        return _Rotation.apply(x, cos, sin, layout)
    return _rotate_eager(x, cos, sin, layout)


def rotate_qk(
    q: Float[Tensor, "batch heads tokens head_dim"],
    k: Float[Tensor, "batch key_heads tokens head_dim"],
    table: RotationTable,
    layout: Layout = "interleaved",
) -> tuple[
    Float[Tensor, "batch heads tokens head_dim"], Float[Tensor, "batch key_heads tokens head_dim"]
]:
    """Both rotated by one table; on a GPU with Triton in one launch, contiguous."""
    if takes_kernels(q):
        from harope.rope._fast.triton import rotate_qk as launch

        return launch(q, k, *table, interleaved=layout == "interleaved")
    return rotate(q, *table, layout), rotate(k, *table, layout)


def takes_kernels(x: Tensor) -> bool:
    """Whether Triton kernels run here: compilers make their own, function transforms know none."""
    return x.is_cuda and runs_eagerly() and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def rotate_formula(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
    """`rotate` as plain real operations: what compilers fuse and exporters know."""
    a, b = _pairs(x.to(_wide(x, cos)), layout)
    first, second = a * cos - b * sin, a * sin + b * cos
    if layout == "interleaved":
        out = torch.stack([first, second], dim=-1).flatten(-2)
    else:
        out = torch.cat([first, second], dim=-1)
    return out.to(x.dtype)


class _Rotation(torch.autograd.Function):
    """The rotation with as few passes over x as eager operations allow.

    Its gradient is the rotation back; x itself is kept only where the table is learned.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
        return _rotate_eager(x, cos, sin, layout)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, cos, sin, ctx.layout = inputs
        ctx.learned = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        kept = x if ctx.learned else None
        ctx.save_for_backward(kept, cos, sin)
        ctx.save_for_forward(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, cos, sin = ctx.saved_tensors
        grad_x = rotate(grad, cos, -sin, ctx.layout) if ctx.needs_input_grad[0] else None
        if not ctx.learned:
            return grad_x, None, None, None
        wide = _wide(x, cos)
        a, b = _pairs(x.to(wide), ctx.layout)
        da, db = _pairs(grad.to(wide), ctx.layout)
        grad_cos = (da * a + db * b).sum_to_size(cos.shape).to(cos.dtype)
        grad_sin = (db * a - da * b).sum_to_size(sin.shape).to(sin.dtype)
        return grad_x, grad_cos, grad_sin, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, cos, sin = ctx.saved_tensors
        dx, dcos, dsin, _ = tangents
        out = torch.zeros_like(x) if dx is None else rotate(dx, cos, sin, ctx.layout)
        if dcos is not None or dsin is not None:
            dcos = torch.zeros_like(cos) if dcos is None else dcos
            dsin = torch.zeros_like(sin) if dsin is None else dsin
            out = out + rotate(x, dcos, dsin, ctx.layout)
        return out


def _rotate_eager(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
    """As few passes over memory as eager operations allow."""
    if x.device.type == "mps":
        return rotate_formula(x, cos, sin, layout)
    wide = _wide(x, cos)
    turn = _turn_halves if layout == "half" else _turn_neighbours
    return turn(x.to(wide), cos.to(wide), sin.to(wide)).to(x.dtype)


def _turn_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(a + ib)(cos + i sin), one pass."""
    pairs = x.unflatten(-1, (-1, 2))
    if not _views_as_complex(pairs):
        pairs = pairs.contiguous()
    turned = torch.view_as_complex(pairs) * torch.complex(cos, sin)
    return torch.view_as_real(turned).flatten(-2)


def _turn_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x cos, then each half of the result takes its share of the other half of x."""
    a, b = x.chunk(2, dim=-1)
    out = x * torch.cat([cos, cos], dim=-1)
    first, second = out.chunk(2, dim=-1)
    first.addcmul_(b, sin, value=-1)
    second.addcmul_(a, sin)
    return out


def _views_as_complex(pairs: Tensor) -> bool:
    """Whether neighbouring numbers lie side by side, at even places."""
    steps = (*pairs.stride()[:-1], pairs.storage_offset())
    return pairs.stride(-1) == 1 and not any(step % 2 for step in steps)


def _pairs(x: Tensor, layout: Layout) -> tuple[Tensor, ...]:
    """First and second channels of all pairs."""
    return x.unflatten(-1, (-1, 2)).unbind(-1) if layout == "interleaved" else x.chunk(2, dim=-1)


def _wide(x: Tensor, cos: Tensor) -> torch.dtype:
    """The dtype to compute in."""
    return torch.promote_types(torch.promote_types(x.dtype, cos.dtype), torch.float32)

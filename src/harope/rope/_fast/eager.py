"""The rotation with as few passes over memory as eager operations allow."""

from typing import Any

import torch
from torch import Tensor

from harope.rope._fast.execution_mode import is_tracing
from harope.rope.rotate import Layout, compute_dtype, split_pairs
from harope.rope.rotate import rotate as rotate_formula


def rotate(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout = "interleaved") -> Tensor:
    """Compute `harope.rope.rotate.rotate` with fewer passes over memory."""
    if torch.is_grad_enabled() and (x.requires_grad or cos.requires_grad or sin.requires_grad):
        return _Rotation.apply(x, cos, sin, layout)
    return _rotate(x, cos, sin, layout)


class _Rotation(torch.autograd.Function):
    """The rotation, whose gradient is the rotation by the negative angle.

    x is saved for the backward pass only if the table is learned.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
        return _rotate(x, cos, sin, layout)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, cos, sin, ctx.layout = inputs
        ctx.table_is_learned = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        ctx.save_for_backward(x if ctx.table_is_learned else None, cos, sin)
        ctx.save_for_forward(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, cos, sin = ctx.saved_tensors
        grad_x = rotate(grad, cos, -sin, ctx.layout) if ctx.needs_input_grad[0] else None
        if not ctx.table_is_learned:
            return grad_x, None, None, None
        dtype = compute_dtype(x, cos)
        a, b = split_pairs(x.to(dtype), ctx.layout)
        da, db = split_pairs(grad.to(dtype), ctx.layout)
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


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
    if x.device.type == "mps" or is_tracing():
        # MPS lacks complex numbers, and compilers do not fuse them.
        return rotate_formula(x, cos, sin, layout)
    dtype = compute_dtype(x, cos)
    rotate_pairs = _rotate_half if layout == "half" else _rotate_interleaved
    return rotate_pairs(x.to(dtype), cos.to(dtype), sin.to(dtype)).to(x.dtype)


def _rotate_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Multiply complex numbers, (a + ib)(cos + i sin), in one pass."""
    pairs = x.unflatten(-1, (-1, 2))
    if not _can_view_as_complex(pairs):
        pairs = pairs.contiguous()
    rotated = torch.view_as_complex(pairs) * torch.complex(cos, sin)
    return torch.view_as_real(rotated).flatten(-2)


def _rotate_half(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Compute x cos, then add the other half of x times the sines to each half in place."""
    a, b = x.chunk(2, dim=-1)
    out = x * torch.cat([cos, cos], dim=-1)
    first, second = out.chunk(2, dim=-1)
    first.addcmul_(b, sin, value=-1)
    second.addcmul_(a, sin)
    return out


def _can_view_as_complex(pairs: Tensor) -> bool:
    """Return whether the two numbers of a pair are adjacent in memory, at even offsets."""
    steps = (*pairs.stride()[:-1], pairs.storage_offset())
    return pairs.stride(-1) == 1 and not any(step % 2 for step in steps)

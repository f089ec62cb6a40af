"""The one place that chooses between a formula and its faster forms.

operation          traced                   eager                    Triton
rotate             harope.rope.rotate       _EagerRotation           triton/rotate.py
rotate_qk          harope.rope.rotate       _EagerRotation           triton/rotate.py
normed_rotate_qk   norm, matrix, rotate     norm, matrix, rotate     triton/qk_norm.py
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from harope._utils.argument_checks import check_tensor
from harope.rope._fast.availability import has_kernels
from harope.rope._fast.execution import is_eager, is_tracing, without_autocast
from harope.rope.basis import MatrixPair, apply_matrices
from harope.rope.rotate import (
    AnyRotationTable,
    BlockRotationTable,
    Layout,
    RotationTable,
    compute_dtype,
    rotate_blocks,
    table_gradient,
)
from harope.rope.rotate import rotate as rotate_formula


def uses_triton(x: Tensor) -> bool:
    """Return whether Triton kernels are used for a tensor: on GPUs in eager mode.

    Compilers generate kernels of their own, and function transforms do not support custom
    operators. The environment variable HAROPE_KERNELS=0 turns the kernels off. Where they cannot
    be used, one warning names the reason.

    Args:
        x: Queries, keys or tokens.

    Raises:
        ValueError: If HAROPE_KERNELS is neither 0 nor 1.
    """
    return x.is_cuda and is_eager() and has_kernels(x.device)


def rotate(
    x: Float[Tensor, "*batch tokens head_dim"],
    cos: Float[Tensor, "*shape tokens pairs"],
    sin: Float[Tensor, "*shape tokens pairs"],
    layout: Layout = "interleaved",
) -> Float[Tensor, "*batch tokens head_dim"]:
    """Rotate pair i of the channels by angle i: (a, b) -> (a cos - b sin, a sin + b cos).

    The formula and the layouts are those of `harope.rope.rotate.rotate`.

    Args:
        x: Queries or keys.
        cos: Cosines of the angles.
        sin: Sines of the angles.
        layout: Which channels form a pair.

    Returns:
        The rotated x in its own dtype, computed in float32 or float64.

    Raises:
        ValueError: If the shapes do not fit each other.
    """
    _check_table(x, cos, sin)
    if is_tracing():
        # Compilers fuse the formula, but no complex numbers.
        return rotate_formula(x, cos, sin, layout)
    if x.ndim == 4 and _fits_kernels(x, x, RotationTable(cos, sin)) and uses_triton(x):
        from harope.rope._fast import triton

        return triton.rotate_one(x, cos, sin, interleaved=layout == "interleaved")
    if torch.is_grad_enabled() and (x.requires_grad or cos.requires_grad or sin.requires_grad):
        return _EagerRotation.apply(x, cos, sin, layout)
    return _rotate_in_few_passes(x, cos, sin, layout)


def _check_table(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Raise ValueError unless cosines and sines have one value per pair and broadcast over x."""
    for name, value in (("x", x), ("cos", cos), ("sin", sin)):
        check_tensor(name, value)
    sizes = zip(reversed(x.shape[:-1]), reversed(cos.shape[:-1]), strict=False)
    if (
        x.ndim < 2
        or cos.shape != sin.shape
        or x.shape[-1:] != (2 * cos.shape[-1],)
        or not all(theirs in (1, own) or own == 1 for own, theirs in sizes)
    ):
        raise ValueError(
            f"x has the shape {tuple(x.shape)}, which does not fit cosines {tuple(cos.shape)} and "
            f"sines {tuple(sin.shape)}: pass one angle per token and pair of channels"
        )


def rotate_qk(
    q: Float[Tensor, "batch heads tokens head_dim"],
    k: Float[Tensor, "batch key_heads tokens head_dim"],
    table: AnyRotationTable,
    layout: Layout = "interleaved",
) -> tuple[
    Float[Tensor, "batch heads tokens head_dim"], Float[Tensor, "batch key_heads tokens head_dim"]
]:
    """Rotate queries and keys by one table; a single launch on GPUs with Triton.

    Args:
        q: Queries.
        k: Keys.
        table: Rotations of both.
        layout: Which channels form a pair.

    Raises:
        ValueError: If the shapes do not fit each other.
    """
    if isinstance(table, RotationTable) and _fits_kernels(q, k, table) and uses_triton(q):
        from harope.rope._fast import triton

        return triton.rotate_qk(q, k, *table, interleaved=layout == "interleaved")
    return rotate_by(q, table, layout), rotate_by(k, table, layout)


def rotate_by(
    x: Float[Tensor, "*batch tokens head_dim"], table: AnyRotationTable, layout: Layout
) -> Float[Tensor, "*batch tokens head_dim"]:
    """Rotate queries or keys by pairs of channels or, for LieRE, by blocks.

    Args:
        x: Queries or keys.
        table: Their rotations.
        layout: Which channels form a pair.
    """
    if isinstance(table, BlockRotationTable):
        return rotate_blocks(x, table.matrices)
    return rotate(x, *table, layout)


def _fits_kernels(q: Tensor, k: Tensor, table: RotationTable) -> bool:
    """Return whether the kernels accept the tensors; the formula accepts more, or raises an error.

    Kernels read and write at computed addresses, so nothing of this may be left to them.
    """
    cos, sin = table
    if q.ndim != 4 or k.ndim != 4 or not 2 <= cos.ndim <= 4:
        return False
    shared = (1,) * (4 - cos.ndim) + tuple(cos.shape[:-2])
    return (
        (q.shape[0], *q.shape[2:]) == (k.shape[0], *k.shape[2:])
        and (q.shape[2], q.shape[3]) == (cos.shape[-2], 2 * cos.shape[-1])
        and cos.shape == sin.shape
        and shared[0] in (1, len(q))
        and (shared[1] == 1 or shared[1] == q.shape[1] == k.shape[1])
        and q.dtype == k.dtype
        and q.device == k.device == cos.device == sin.device
    )


def normed_rotate_qk(
    q: Float[Tensor, "batch heads tokens head_dim"],
    k: Float[Tensor, "batch key_heads tokens head_dim"],
    table: AnyRotationTable | None,
    matrices: MatrixPair | None = None,
    *,
    weights: tuple[Float[Tensor, " head_dim"], Float[Tensor, " head_dim"]] | None = None,
    eps: float = 1e-6,
    layout: Layout = "interleaved",
) -> tuple[
    Float[Tensor, "batch heads tokens head_dim"], Float[Tensor, "batch key_heads tokens head_dim"]
]:
    """Apply QK-norm, basis and rotation; a single launch on GPUs with Triton.

        q' = R A_q (gamma_q * q / rms(q))          k' = R A_k (gamma_k * k / rms(k))

    Args:
        q: Queries, as projected.
        k: Keys, as projected.
        table: Cosines and sines of the positions; None for no rotation.
        matrices: (A_q, A_k), each per head or one for all heads; None for the identity.
        weights: (gamma_q, gamma_k) of the RMS norms; None for norms without weights.
        eps: Added to the mean square over the channels of a head.
        layout: Which channels form a pair.

    Returns:
        Queries and keys in their own dtypes, computed in float32 or float64 and rounded once.
    """
    if isinstance(table, RotationTable) and _fits_normed_kernel(q, k, table, matrices, weights):
        from harope.rope._fast import triton

        g_q, g_k = _scaled_matrices(q, matrices, weights)
        interleaved = layout == "interleaved"
        return triton.normed_qk(q, k, g_q, g_k, *table, eps=eps, interleaved=interleaved)
    a_q, a_k = matrices or (None, None)
    gamma_q, gamma_k = weights or (None, None)
    mapped_q, mapped_k = _norm_and_map(q, a_q, gamma_q, eps), _norm_and_map(k, a_k, gamma_k, eps)
    if table is not None:
        mapped_q, mapped_k = rotate_qk(mapped_q, mapped_k, table, layout)
    return mapped_q.to(q.dtype), mapped_k.to(k.dtype)


def _fits_normed_kernel(
    q: Tensor,
    k: Tensor,
    table: RotationTable,
    matrices: MatrixPair | None,
    weights: tuple[Tensor, Tensor] | None,
) -> bool:
    """Return whether the kernel accepts the tensors and may be used."""
    sizes = [(x.shape[1], x.shape[-1]) for x in (q, k) if x.ndim == 4]
    return (
        _fits_kernels(q, k, table)
        # The kernel has no gradient of the table, and no products in float64.
        and not (table.cos.requires_grad or table.sin.requires_grad)
        and q.dtype != torch.float64
        and all(
            a.ndim == 3 and len(a) in (1, heads) and a.shape[1:] == (head_dim, head_dim)
            for a, (heads, head_dim) in zip(matrices or (), sizes, strict=False)
        )
        and all(gamma.shape == q.shape[-1:] for gamma in weights or ())
        and uses_triton(q)
    )


def _norm_and_map(
    x: Float[Tensor, "batch heads tokens head_dim"],
    matrix: Float[Tensor, "*samples #heads head_dim head_dim"] | None,
    weight: Float[Tensor, " head_dim"] | None,
    eps: float,
) -> Float[Tensor, "batch heads tokens head_dim"]:
    """Compute A (gamma * x / rms(x)) in float32 or float64, outside autocast.

    Only A diag(gamma) is one matrix, so A cannot be folded into the projection before the norm.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    gamma = None if weight is None else weight.to(wide)
    with without_autocast(x):
        normed = F.rms_norm(x.to(wide), x.shape[-1:], gamma, eps)
        return normed if matrix is None else apply_matrices(normed, matrix)


def _scaled_matrices(
    x: Tensor, matrices: MatrixPair | None, weights: tuple[Tensor, Tensor] | None
) -> MatrixPair:
    """Return A_q diag(gamma_q) and A_k diag(gamma_k) in float32, on the device of x."""
    if matrices is None:
        identity = torch.eye(x.shape[-1], device=x.device)[None]
        matrices = (identity, identity)
    if weights is None:
        return matrices[0].float(), matrices[1].float()
    return matrices[0].float() * weights[0].float(), matrices[1].float() * weights[1].float()


class _EagerRotation(torch.autograd.Function):
    """The rotation, whose gradient is the rotation by the negative angle.

    x is saved for the backward pass only if the table is learned.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
        return _rotate_in_few_passes(x, cos, sin, layout)

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
        return grad_x, *table_gradient(x, grad, cos, ctx.layout), None

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


def _rotate_in_few_passes(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
    """Compute `harope.rope.rotate.rotate` with as few passes over memory as operations allow."""
    if x.device.type == "mps":
        # There are no complex numbers.
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

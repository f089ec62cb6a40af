"""The one place that chooses between a formula and its faster forms.

operation          formula                  eager       Triton
rotate             harope.rope.rotate       eager.py
rotate_qk          harope.rope.rotate       eager.py    triton/rotate.py
normed_rotate_qk   qk_norm.py, then rotate              triton/qk_norm.py
"""

from functools import cache
from importlib.util import find_spec

from jaxtyping import Float
from torch import Tensor

from harope.rope._fast import eager
from harope.rope._fast.execution_mode import is_eager, is_tracing
from harope.rope._fast.precision import without_autocast
from harope.rope._fast.qk_norm import norm_and_map, scaled_matrices
from harope.rope.basis import MatrixPair
from harope.rope.rotate import Layout, RotationTable
from harope.rope.rotate import rotate as rotate_formula


def uses_triton(x: Tensor) -> bool:
    """Return whether Triton kernels are used for x.

    They are on GPUs in eager mode. Compilers generate kernels of their own, and function transforms
    do not support custom operators.
    """
    return x.is_cuda and is_eager() and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


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
    """
    form = rotate_formula if is_tracing() else eager.rotate
    return form(x, cos, sin, layout)


def rotate_qk(
    q: Float[Tensor, "batch heads tokens head_dim"],
    k: Float[Tensor, "batch key_heads tokens head_dim"],
    table: RotationTable,
    layout: Layout = "interleaved",
) -> tuple[
    Float[Tensor, "batch heads tokens head_dim"], Float[Tensor, "batch key_heads tokens head_dim"]
]:
    """Rotate queries and keys by one table; a single launch on GPUs with Triton.

    Args:
        q: Queries.
        k: Keys.
        table: Cosines and sines for both.
        layout: Which channels form a pair.
    """
    if uses_triton(q):
        from harope.rope._fast import triton

        return triton.rotate_qk(q, k, *table, interleaved=layout == "interleaved")
    return rotate(q, *table, layout), rotate(k, *table, layout)


def normed_rotate_qk(
    q: Float[Tensor, "batch heads tokens head_dim"],
    k: Float[Tensor, "batch key_heads tokens head_dim"],
    table: RotationTable | None,
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
    # The kernel has no gradient of the table.
    is_fixed = table is not None and not (table.cos.requires_grad or table.sin.requires_grad)
    if is_fixed and uses_triton(q):
        from harope.rope._fast import triton

        assert table is not None
        g_q, g_k = scaled_matrices(q, matrices, weights)
        interleaved = layout == "interleaved"
        return triton.normed_qk(q, k, g_q, g_k, *table, eps=eps, interleaved=interleaved)
    a_q, a_k = matrices or (None, None)
    gamma_q, gamma_k = weights or (None, None)
    return (
        _normed_rotate(q, table, a_q, gamma_q, eps, layout),
        _normed_rotate(k, table, a_k, gamma_k, eps, layout),
    )


def _normed_rotate(
    x: Tensor,
    table: RotationTable | None,
    matrix: Tensor | None,
    weight: Tensor | None,
    eps: float,
    layout: Layout,
) -> Tensor:
    with without_autocast(x):
        mapped = norm_and_map(x, matrix, weight, eps)
        rotated = mapped if table is None else rotate(mapped, *table, layout)
        return rotated.to(x.dtype)

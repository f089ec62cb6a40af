"""Norm, matrix and rotation of queries and keys, where a norm bars the matrix from the weights.

    q' = R A_q (gamma_q * q / rms(q))          k' = R A_k (gamma_k * k / rms(k))

Models with QK-norm (FLUX, SD3.5) normalise between projection and rotation: there only
A diag(gamma) is one matrix, and it meets every token.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from harope.rope._fast.precision import without_autocast
from harope.rope.basis import MatrixPair
from harope.rope.fold import apply_matrices
from harope.rope.rotate import Layout, RotationTable, rotate, takes_kernels


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
    """RMS norm over the channels of each head, then the matrices, then the rotation.

    Args:
        q: queries as the projection gives them.
        k: keys, likewise.
        table: cosines and sines of their positions; None: no rotation.
        matrices: (A_q, A_k), per head or one for all; None: the identity.
        weights: (gamma_q, gamma_k) of the norms; None: norms without weights.
        eps: added to the mean square.
        layout: which channels form a pair.

    In float32 throughout and rounded once, to the dtype of q. On a GPU with Triton one launch reads
    and writes every value once, unless the table is learned.
    """
    if (
        table is not None
        and takes_kernels(q)
        and not (table.cos.requires_grad or table.sin.requires_grad)
    ):
        from harope.rope._fast.triton import normed_qk

        matrix_q = _with_weights(q, matrices, weights, 0)
        matrix_k = _with_weights(k, matrices, weights, 1)
        interleaved = layout == "interleaved"
        return normed_qk(
            q, k, matrix_q, matrix_k, table.cos, table.sin, eps=eps, interleaved=interleaved
        )
    return (
        _normed_rotate(q, table, matrices and matrices[0], weights and weights[0], eps, layout),
        _normed_rotate(k, table, matrices and matrices[1], weights and weights[1], eps, layout),
    )


def _normed_rotate(
    x: Tensor,
    table: RotationTable | None,
    matrix: Tensor | None,
    weight: Tensor | None,
    eps: float,
    layout: Layout,
) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    with without_autocast(x):
        unit = F.rms_norm(
            x.to(wide), x.shape[-1:], None if weight is None else weight.to(wide), eps
        )
        mapped = unit if matrix is None else apply_matrices(unit, matrix)
        rotated = mapped if table is None else rotate(mapped, *table, layout)
        return rotated.to(x.dtype)


def _with_weights(
    x: Tensor,
    matrices: MatrixPair | None,
    weights: tuple[Tensor, Tensor] | None,
    side: int,
) -> Float[Tensor, "heads head_dim head_dim"]:
    """A diag(gamma) in float32."""
    if matrices is None:
        matrix = torch.eye(x.shape[-1], device=x.device)[None]
    else:
        matrix = matrices[side].float()
    return matrix if weights is None else matrix * weights[side].float()

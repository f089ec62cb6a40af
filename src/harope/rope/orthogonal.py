"""Orthogonal matrices from skew-symmetric generators."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from harope.rope._fast.exponential import skew_exp
from harope.rope._fast.precision import without_autocast

OrthogonalMap = Literal["exp", "cayley"]


def num_skew_entries(dim: int) -> int:
    """Free entries of a skew-symmetric (dim, dim) matrix."""
    return dim * (dim - 1) // 2


def skew_matrix(
    entries: Float[Tensor, "*batch entries"], dim: int
) -> Float[Tensor, "*batch dim dim"]:
    """The skew-symmetric matrix S with the entries above its diagonal, row by row."""
    row, column = torch.triu_indices(dim, dim, 1, device=entries.device)
    upper = entries.new_zeros(*entries.shape[:-1], dim * dim)
    upper = upper.index_copy(-1, row * dim + column, entries).unflatten(-1, (dim, dim))
    return upper - upper.mT


def skew_entries(matrix: Float[Tensor, "*batch dim dim"]) -> Float[Tensor, "*batch entries"]:
    """The entries above the diagonal of the skew part (A - A^T) / 2: the inverse of skew_matrix."""
    dim = matrix.shape[-1]
    row, column = torch.triu_indices(dim, dim, 1, device=matrix.device)
    return ((matrix - matrix.mT) / 2)[..., row, column]


def orthogonal_from_entries(
    entries: Float[Tensor, "*batch entries"], dim: int, orthogonal_map: OrthogonalMap
) -> Float[Tensor, "*batch dim dim"]:
    """`exp(S)`, or Cayley's `(I - S)(I + S)^-1`, in float32 or better.

    Both are rotations; Cayley's needs one linear solve, and misses those with a half turn.
    """
    entries = entries.to(torch.promote_types(entries.dtype, torch.float32))
    with without_autocast(entries):
        skew = skew_matrix(entries, dim)
        if orthogonal_map == "exp":
            return skew_exp(skew)
        eye = torch.eye(dim, dtype=skew.dtype, device=skew.device)
        # I - S and (I + S)^-1 commute, so the solve may stand on the left.
        return torch.linalg.solve(eye + skew, eye - skew)

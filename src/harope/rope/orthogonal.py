"""Orthogonal matrices from skew-symmetric generators."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from harope.rope._fast.exponential import skew_exp
from harope.rope._fast.precision import without_autocast

OrthogonalMap = Literal["exp", "cayley"]


def num_skew_entries(dim: int) -> int:
    """Return the number of free entries of a skew-symmetric (dim, dim) matrix."""
    return dim * (dim - 1) // 2


def skew_matrix(
    entries: Float[Tensor, "*batch entries"], dim: int
) -> Float[Tensor, "*batch dim dim"]:
    """Build the skew-symmetric matrix with the given entries above its diagonal, row by row."""
    row, column = torch.triu_indices(dim, dim, 1, device=entries.device)
    upper = entries.new_zeros(*entries.shape[:-1], dim * dim)
    upper = upper.index_copy(-1, row * dim + column, entries).unflatten(-1, (dim, dim))
    return upper - upper.mT


def skew_entries(matrix: Float[Tensor, "*batch dim dim"]) -> Float[Tensor, "*batch entries"]:
    """Return the entries above the diagonal of (A - A^T) / 2; the inverse of `skew_matrix`."""
    dim = matrix.shape[-1]
    row, column = torch.triu_indices(dim, dim, 1, device=matrix.device)
    return ((matrix - matrix.mT) / 2)[..., row, column]


def orthogonal_from_entries(
    entries: Float[Tensor, "*batch entries"], dim: int, orthogonal_map: OrthogonalMap
) -> Float[Tensor, "*batch dim dim"]:
    """Compute `exp(S)` or the Cayley map `(I - S)(I + S)^-1` of skew-symmetric matrices S.

    Both are rotations. The Cayley map needs one linear solve and cannot reach half turns.

    Args:
        entries: Entries of S above its diagonal, row by row.
        dim: Rows of S.
        orthogonal_map: "exp" or "cayley".

    Returns:
        Rotations in float32 or float64.
    """
    entries = entries.to(torch.promote_types(entries.dtype, torch.float32))
    with without_autocast(entries):
        skew = skew_matrix(entries, dim)
        if orthogonal_map == "exp":
            return skew_exp(skew)
        eye = torch.eye(dim, dtype=skew.dtype, device=skew.device)
        # I - S and (I + S)^-1 commute, so the solve can come from the left.
        return torch.linalg.solve(eye + skew, eye - skew)

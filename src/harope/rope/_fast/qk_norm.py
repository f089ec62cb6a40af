"""QK-norm and basis, for models whose QK-norm prevents folding A into the projection.

Models with QK-norm (FLUX, SD3.5) normalise between projection and rotation. There only
A diag(gamma) is one matrix, and it is applied to every token.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from harope.rope.basis import MatrixPair
from harope.rope.fold import apply_matrices


def norm_and_map(
    x: Float[Tensor, "batch heads tokens head_dim"],
    matrix: Float[Tensor, "#heads head_dim head_dim"] | None,
    weight: Float[Tensor, " head_dim"] | None,
    eps: float,
) -> Float[Tensor, "batch heads tokens head_dim"]:
    """Compute A (gamma * x / rms(x)) in float32 or float64, outside autocast."""
    wide = torch.promote_types(x.dtype, torch.float32)
    gamma = None if weight is None else weight.to(wide)
    normed = F.rms_norm(x.to(wide), x.shape[-1:], gamma, eps)
    return normed if matrix is None else apply_matrices(normed, matrix)


def scaled_matrices(
    x: Tensor, matrices: MatrixPair | None, weights: tuple[Tensor, Tensor] | None
) -> MatrixPair:
    """Return A_q diag(gamma_q) and A_k diag(gamma_k) in float32, on the device of x."""
    if matrices is None:
        identity = torch.eye(x.shape[-1], device=x.device)[None]
        matrices = (identity, identity)
    if weights is None:
        return matrices[0].float(), matrices[1].float()
    return matrices[0].float() * weights[0].float(), matrices[1].float() * weights[1].float()

"""Applying a basis: to tokens, or once and for all to the weights of the projection before them."""

import torch
from jaxtyping import Float
from torch import Tensor

from harope.rope._fast.precision import without_autocast


def apply_matrices(
    x: Float[Tensor, "*batch heads tokens head_dim"],
    matrices: Float[Tensor, "*shape head_dim head_dim"],
) -> Float[Tensor, "*batch heads tokens head_dim"]:
    """A_h x for every token of head h, in float32 or better; returned in the dtype of x."""
    wide = torch.promote_types(torch.promote_types(x.dtype, matrices.dtype), torch.float32)
    with without_autocast(x):
        return (x.to(wide) @ matrices.to(x.device, wide).mT).to(x.dtype)


def fold_projection(
    weight: Float[Tensor, "channels width"],
    bias: Float[Tensor, " channels"] | None,
    matrices: Float[Tensor, "heads head_dim head_dim"],
    num_heads: int | None = None,
) -> tuple[Float[Tensor, "channels width"], Float[Tensor, " channels"] | None]:
    """A_h (W x + b) as one projection: (A_h W_h, A_h b_h) for every head h.

    Args:
        weight: heads * head_dim rows, head after head (a Linear's weight).
        bias: the same rows, or None.
        matrices: A_h, one per head, or a single one that all heads share.
        num_heads: needed only to check a shared matrix; by default the rows tell.

    Computed in float32 or better and differentiable; returned in the dtype of weight. Only bare
    projections fold: a norm between projection and rotation stands in the way.
    Raises ValueError when the rows are not heads * head_dim.
    """
    head_dim = matrices.shape[-1]
    heads = num_heads or (len(matrices) if len(matrices) > 1 else len(weight) // head_dim)
    if len(weight) != heads * head_dim or len(matrices) not in (1, heads):
        raise ValueError(
            f"weight has {len(weight)} rows but matrices of shape {tuple(matrices.shape)} need "
            f"{heads} x {head_dim}: pass the projection of the same heads"
        )
    wide = torch.promote_types(torch.promote_types(weight.dtype, matrices.dtype), torch.float32)
    with without_autocast(weight):
        matrices = matrices.to(weight.device, wide)
        folded = (matrices @ weight.to(wide).unflatten(0, (heads, head_dim))).flatten(0, 1)
        if bias is None:
            return folded.to(weight.dtype), None
        moved = (matrices @ bias.to(wide).unflatten(0, (heads, head_dim, 1))).flatten()
        return folded.to(weight.dtype), moved.to(bias.dtype)

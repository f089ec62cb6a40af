"""Applying a basis to tokens, or folding it into the projection that makes them."""

import torch
from jaxtyping import Float
from torch import Tensor

from harope.rope._fast.precision import without_autocast


def apply_matrices(
    x: Float[Tensor, "*batch heads tokens head_dim"],
    matrices: Float[Tensor, "*shape head_dim head_dim"],
) -> Float[Tensor, "*batch heads tokens head_dim"]:
    """Compute A_h x for every token of head h.

    Args:
        x: Queries or keys.
        matrices: A_h, per head or one for all heads.

    Returns:
        The result in the dtype of x, computed in float32 or float64.
    """
    wide = torch.promote_types(torch.promote_types(x.dtype, matrices.dtype), torch.float32)
    with without_autocast(x):
        return (x.to(wide) @ matrices.to(x.device, wide).mT).to(x.dtype)


def fold_projection(
    weight: Float[Tensor, "channels width"],
    bias: Float[Tensor, " channels"] | None,
    matrices: Float[Tensor, "heads head_dim head_dim"],
    num_heads: int | None = None,
) -> tuple[Float[Tensor, "channels width"], Float[Tensor, " channels"] | None]:
    """Fold A into a projection: A_h (W x + b) = (A_h W_h) x + A_h b_h for every head h.

    This is possible only if nothing, such as QK-norm, comes between projection and rotation.

    Args:
        weight: Weight of a Linear with heads * head_dim rows, head after head.
        bias: Its bias, or None.
        matrices: A_h, one per head, or a single one for all heads.
        num_heads: Heads, needed only to check a shared matrix; None derives them from the rows.

    Returns:
        The folded weight and bias in their own dtypes, computed in float32 or float64;
        differentiable.

    Raises:
        ValueError: If the weight does not have heads * head_dim rows.
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

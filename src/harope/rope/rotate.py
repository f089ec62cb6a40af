"""Angles to cosines and sines, and the rotation of queries and keys by them."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

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
    wide = torch.promote_types(torch.promote_types(x.dtype, cos.dtype), torch.float32)
    if layout == "interleaved":
        a, b = x.to(wide).unflatten(-1, (-1, 2)).unbind(-1)
        out = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    else:
        a, b = x.to(wide).chunk(2, dim=-1)
        out = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
    return out.to(x.dtype)

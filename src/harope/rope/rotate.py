"""The rotation of queries and keys, as formulas.

`harope.rope.rotate` and `harope.rope.rotate_qk` compute the same by the fastest form that is
available (`harope.rope._fast.dispatch`).
"""

from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Layout = Literal["interleaved", "half"]


class RotationTable(NamedTuple):
    """Cosines and sines of the angles of all tokens.

    Their shape is (tokens, pairs), (heads or 1, tokens, pairs) or (batch, heads or 1, tokens,
    pairs), which broadcasts over queries of shape (batch, heads, tokens, head_dim).
    """

    cos: Float[Tensor, "*shape tokens pairs"]
    sin: Float[Tensor, "*shape tokens pairs"]


class BlockRotationTable(NamedTuple):
    """Rotation matrices of all tokens, for encodings that rotate blocks of more than two channels.

    The last axis has the b x b matrices of all blocks, row by row: head_dim * b numbers. The axes
    before it are those of `RotationTable`.
    """

    matrices: Float[Tensor, "*shape tokens entries"]


AnyRotationTable: TypeAlias = RotationTable | BlockRotationTable
"""What turns the tokens of an attention; encodings know how to apply their own."""


def rotation_table(angles: Float[Tensor, "*shape tokens pairs"]) -> RotationTable:
    """Compute cosines and sines of angles in radians, in the dtype of the angles.

    Args:
        angles: Angles, as `Frequencies` compute them.
    """
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

    Args:
        x: Queries or keys.
        cos: Cosines of the angles.
        sin: Sines of the angles.
        layout: Which channels form a pair.

    Returns:
        The rotated x in its own dtype, computed in float32 or float64
        (RoFormer, arXiv 2104.09864, equation 15).
    """
    a, b = split_pairs(x.to(compute_dtype(x, cos)), layout)
    first, second = a * cos - b * sin, a * sin + b * cos
    if layout == "interleaved":
        out = torch.stack([first, second], dim=-1).flatten(-2)
    else:
        out = torch.cat([first, second], dim=-1)
    return out.to(x.dtype)


def rotate_blocks(
    x: Float[Tensor, "*batch tokens head_dim"], matrices: Float[Tensor, "*shape tokens entries"]
) -> Float[Tensor, "*batch tokens head_dim"]:
    """Multiply every block of channels by its matrix.

    Args:
        x: Queries or keys.
        matrices: The matrices of a `BlockRotationTable`.

    Returns:
        The rotated x in its own dtype, computed in float32 or float64.

    Raises:
        ValueError: If the matrices are not for as many channels.
    """
    size, rest = divmod(matrices.shape[-1], x.shape[-1])
    if rest or size == 0 or x.shape[-1] % size:
        raise ValueError(
            f"x has {x.shape[-1]} channels, which do not fit {matrices.shape[-1]} entries of "
            f"matrices per token"
        )
    blocks = x.to(compute_dtype(x, matrices)).unflatten(-1, (-1, 1, size))
    # Elementwise products, as matrix products may use TF32 or autocast.
    out = (matrices.unflatten(-1, (-1, size, size)) * blocks).sum(-1)
    return out.flatten(-2).to(x.dtype)


def split_pairs(
    x: Float[Tensor, "*batch tokens head_dim"], layout: Layout
) -> tuple[Float[Tensor, "*batch tokens pairs"], ...]:
    """Return the first and the second channels of all pairs, as views.

    Args:
        x: Queries or keys.
        layout: Which channels form a pair.
    """
    return x.unflatten(-1, (-1, 2)).unbind(-1) if layout == "interleaved" else x.chunk(2, dim=-1)


def table_gradient(
    x: Float[Tensor, "*batch tokens head_dim"],
    grad: Float[Tensor, "*batch tokens head_dim"],
    cos: Float[Tensor, "*shape tokens pairs"],
    layout: Layout,
) -> tuple[Float[Tensor, "*shape tokens pairs"], Float[Tensor, "*shape tokens pairs"]]:
    """Compute the gradients of cosines and sines.

    Args:
        x: Queries or keys, not rotated.
        grad: Gradient of the rotated x.
        cos: Cosines, whose shape and dtype the gradients get.
        layout: Which channels form a pair.
    """
    dtype = compute_dtype(x, cos)
    a, b = split_pairs(x.to(dtype), layout)
    da, db = split_pairs(grad.to(dtype), layout)
    grad_cos = (da * a + db * b).sum_to_size(cos.shape).to(cos.dtype)
    return grad_cos, (db * a - da * b).sum_to_size(cos.shape).to(cos.dtype)


def layout_of(interleaved: bool) -> Layout:
    """Return the name of a layout, which custom operators know as a bool.

    Args:
        interleaved: Whether the channels of a pair are adjacent.
    """
    return "interleaved" if interleaved else "half"


def compute_dtype(x: Tensor, cos: Tensor) -> torch.dtype:
    """Return the dtype to rotate in: the wider of both, at least float32.

    Args:
        x: Queries or keys.
        cos: Cosines, or sines.
    """
    return torch.promote_types(torch.promote_types(x.dtype, cos.dtype), torch.float32)

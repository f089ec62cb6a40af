"""Receptive fields of heads: scores and attention as functions of the offset between two tokens.

An offset is the position of the key minus that of the query. The map of a grid (height, width) has
the shape (2 height - 1, 2 width - 1): rows are dy, columns are dx, and offset 0 is in the middle.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from harope.rope.positions import grid_positions
from harope.rope.rotate import Layout

Grid = tuple[int, int]
Maps = Float[Tensor, "heads rows columns"]


def wave_vectors(angles_of: Callable[[Tensor], Tensor], num_axes: int, sizes: Grid) -> Tensor:
    """Compute the wave vectors of rotary frequencies, in radians per token.

    Angles are linear in the position, so those of a grid determine the wave vectors.

    Args:
        angles_of: Angles of positions, such as `RotaryEncoding.angles`.
        num_axes: Number of axes of the positions. With one axis, the tokens are a row of
            `sizes[1]`.
        sizes: Number of tokens along y and x.

    Returns:
        (axes, heads or 1, pairs) in float64. Axes before the last two, such as the index of a text
        token or the time of a video, and axes of one token are zero.
    """
    grid = (1,) * (num_axes - 2) + (sizes if num_axes > 1 else sizes[1:])
    with torch.no_grad():
        angles = angles_of(grid_positions(*grid).double()).double()
    angles = angles[None] if angles.ndim == 2 else angles
    vectors = torch.zeros(num_axes, *angles[:, 0].shape, dtype=torch.float64)
    for axis, size in enumerate(grid):
        if size > 1:
            last = (size - 1) * math.prod(grid[axis + 1 :])
            vectors[axis] = (angles[:, last] - angles[:, 0]) / (size - 1)
    return vectors


def kernel_maps(
    queries: Float[Tensor, "heads head_dim width"],
    keys: Float[Tensor, "heads head_dim width"],
    vectors: Float[Tensor, "axes freq_heads pairs"],
    sizes: Grid,
    layout: Layout,
) -> Float[Tensor, "_ rows columns"]:
    """Compute trace(Q^T R(offset) K) for all offsets of a grid, exactly and without data.

    It is the mean score of two tokens with the same content x, white noise (E x x^T = I), whose
    query is Q x and whose key is K x: E (R(p) Q x)^T R(p') K x. With M = K Q^T and pair i on the
    channels (a, b) it is

        sum_i (M_aa + M_bb) cos(f_i . offset) + (M_ab - M_ba) sin(f_i . offset)

    With Q = A_q and K = A_k it is the kernel of the encoding itself. If A_q = A_k = A, then
    M = A A^T: the basis weights the cosines of each plane by how much it stretches its inputs, and
    a rotation does not change the kernel. With Q and K the projections times A it is the kernel of
    the trained head, which rotations do change.

    Args:
        queries: Q of every head, or of one.
        keys: K of every head, or of one.
        vectors: Wave vector of each pair (`wave_vectors`).
        sizes: Number of tokens along y and x.
        layout: Which channels form a pair.

    Returns:
        One map per head of the queries or of the frequencies, whichever has more.
    """
    m = keys.double() @ queries.double().mT
    first, second = _pairs(m.shape[-1], layout)
    even = m[:, first, first] + m[:, second, second]
    odd = m[:, first, second] - m[:, second, first]
    offsets = torch.stack(_offsets(sizes), dim=-1)[..., -len(vectors) :]
    vectors = vectors[-offsets.shape[-1] :]
    angles = torch.einsum("yxa,ahp->hyxp", offsets, vectors)
    return (even[:, None, None] * angles.cos() + odd[:, None, None] * angles.sin()).sum(dim=-1)


def encoding_kernel(
    matrices: tuple[Tensor, Tensor] | None,
    head_dim: int,
    vectors: Float[Tensor, "axes freq_heads pairs"],
    sizes: Grid,
    layout: Layout,
) -> Float[Tensor, "_ rows columns"]:
    """Compute the kernel of an encoding, trace(A_q^T R(offset) A_k) / head_dim.

    It is the mean score of a unit channel with itself. Without matrices it is the mean of the
    cosines, which is 1 at offset 0.

    Args:
        matrices: A_q and A_k; None without a basis.
        head_dim: Number of channels of a head.
        vectors: Wave vector of each pair (`wave_vectors`).
        sizes: Number of tokens along y and x.
        layout: Which channels form a pair.

    Returns:
        One map per head, or a single one if neither matrices nor frequencies differ by head.
    """
    eye = torch.eye(head_dim)[None]
    query, key = matrices or (eye, eye)
    return kernel_maps(query, key, vectors, sizes, layout) / head_dim


def mean_by_offset(attention: Float[Tensor, "heads tokens tokens"], sizes: Grid) -> Maps:
    """Average attention probabilities over all pairs of query and key with the same offset.

    Args:
        attention: Probabilities between the tokens of a grid, row by row.
        sizes: Number of tokens along y and x.

    Returns:
        One map of 2 height - 1 rows and 2 width - 1 columns per head.
    """
    height, width = sizes
    dy, dx = _pair_offsets(sizes)
    index = ((dy + height - 1) * (2 * width - 1) + dx + width - 1).flatten().long()
    count = (2 * height - 1) * (2 * width - 1)
    sums = attention.new_zeros(len(attention), count).index_add(1, index, attention.flatten(1))
    pairs = torch.bincount(index, minlength=count)
    return (sums / pairs).unflatten(1, (2 * height - 1, 2 * width - 1))


def mean_distance(
    attention: Float[Tensor, "heads tokens tokens"], sizes: Grid
) -> Float[Tensor, " heads"]:
    """Compute the mean attention distance in tokens, E_q sum_k P(k | q) |p_k - p_q| / sum_k P.

    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), appendix D.7, there in pixels.

    Args:
        attention: Probabilities between the tokens of a grid. Attention to other tokens, such as
            class tokens, is left out, so that rows may sum to less than 1.
        sizes: Number of tokens along y and x.

    Returns:
        Mean over the queries of each head.
    """
    distance = torch.hypot(*_pair_offsets(sizes)).to(attention)
    return ((attention * distance).sum(-1) / attention.sum(-1)).mean(-1)


def _offsets(sizes: Grid) -> tuple[Tensor, Tensor]:
    ranges = [torch.arange(1 - size, size, dtype=torch.float64) for size in sizes]
    dy, dx = torch.meshgrid(*ranges, indexing="ij")
    return dy, dx


def _pair_offsets(sizes: Grid) -> tuple[Tensor, Tensor]:
    """Return dy and dx of every (query, key)."""
    positions = grid_positions(*sizes)
    dy, dx = (positions[None] - positions[:, None]).unbind(-1)
    return dy, dx


def _pairs(head_dim: int, layout: Layout) -> tuple[Tensor, Tensor]:
    """Return the first and second channels of all pairs."""
    channels = torch.arange(head_dim)
    if layout == "half":
        first, second = channels.chunk(2)
        return first, second
    return channels[::2], channels[1::2]

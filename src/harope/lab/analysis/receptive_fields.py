"""Receptive fields of heads: scores and attention as functions of the offset between two tokens.

An offset is the key's place minus the query's. A map holds all offsets of a grid (height, width):
(2 height - 1, 2 width - 1), rows dy and columns dx, offset 0 in its middle.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from harope.rope.frequencies import Frequencies
from harope.rope.positions import grid_positions
from harope.rope.rotate import Layout

Grid = tuple[int, int]
Maps = Float[Tensor, "heads rows columns"]


def wave_vectors(frequencies: Frequencies, num_axes: int, sizes: Grid) -> Tensor:
    """Radians per token along every axis, (axes, heads or 1, pairs), float64.

    All families are linear in the position, so the angles of a grid's neighbours tell all. Axes
    before the last two (a text's index, a video's time) and axes of one token have zeros. With one
    axis, tokens are a row of `sizes[1]`.
    """
    grid = (1,) * (num_axes - 2) + (sizes if num_axes > 1 else sizes[1:])
    with torch.no_grad():
        angles = frequencies(grid_positions(*grid).double()).double()
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
    """trace(Q^T R(offset) K) for the offsets of a grid, exact: no data and no sampling.

    The score of tokens with one content x, white noise (E x x^T = I), whose query is Q x and whose
    key is K x: E (R(p) Q x)^T R(p') K x. With M = K Q^T and pair i on the channels (a, b) it is

        sum_i (M_aa + M_bb) cos(f_i . offset) + (M_ab - M_ba) sin(f_i . offset)

    Of the matrices (Q = A_q, K = A_k) it is the kernel of the encoding itself: there M = A A^T
    where A_q = A_k = A, so the basis weighs the cosines of the spectrum by how much it stretches
    what it sends to each plane, and a rotation leaves the kernel as it was. Of A times the
    projections it is that of the head as trained, rotations included.

    Maps are as many as heads, or as heads of the frequencies where queries and keys have one.
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
    """trace(A_q^T R(offset) A_k) / head_dim: the mean score of a unit channel against itself.

    Without matrices the mean of the cosines, which is 1 at offset 0. One map where neither
    matrices nor frequencies differ by head.
    """
    eye = torch.eye(head_dim)[None]
    query, key = matrices or (eye, eye)
    return kernel_maps(query, key, vectors, sizes, layout) / head_dim


def mean_by_offset(attention: Float[Tensor, "heads tokens tokens"], sizes: Grid) -> Maps:
    """Mean of the attention over all pairs of a query and a key at each offset."""
    height, width = sizes
    dy, dx = _pair_offsets(sizes)
    place = ((dy + height - 1) * (2 * width - 1) + dx + width - 1).flatten().long()
    count = (2 * height - 1) * (2 * width - 1)
    sums = attention.new_zeros(len(attention), count).index_add(1, place, attention.flatten(1))
    pairs = torch.bincount(place, minlength=count)
    return (sums / pairs).unflatten(1, (2 * height - 1, 2 * width - 1))


def mean_distance(
    attention: Float[Tensor, "heads tokens tokens"], sizes: Grid
) -> Float[Tensor, " heads"]:
    """Mean distance that a query attends over, in tokens: E_q sum_k P(k | q) |p_k - p_q| / sum_k P.

    Attention to tokens outside the grid (class tokens) does not count (Dosovitskiy et al. 2021,
    arXiv 2010.11929, appendix D.7, there in pixels).
    """
    distance = torch.hypot(*_pair_offsets(sizes)).to(attention)
    return ((attention * distance).sum(-1) / attention.sum(-1)).mean(-1)


def _offsets(sizes: Grid) -> tuple[Tensor, Tensor]:
    ranges = [torch.arange(1 - size, size, dtype=torch.float64) for size in sizes]
    dy, dx = torch.meshgrid(*ranges, indexing="ij")
    return dy, dx


def _pair_offsets(sizes: Grid) -> tuple[Tensor, Tensor]:
    """dy and dx of every (query, key)."""
    places = grid_positions(*sizes)
    dy, dx = (places[None] - places[:, None]).unbind(-1)
    return dy, dx


def _pairs(head_dim: int, layout: Layout) -> tuple[Tensor, Tensor]:
    """First and second channel of every pair."""
    channels = torch.arange(head_dim)
    if layout == "half":
        first, second = channels.chunk(2)
        return first, second
    return channels[::2], channels[1::2]

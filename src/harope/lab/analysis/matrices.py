"""Measures of a head's matrix A: how it stretches, rotates and mixes channels; similarity of heads.

All functions compute in float64. The channels of a head are coordinates of its own projection.
Heads are nevertheless compared channel by channel, since with A = I at the start of training all
heads share the coordinates of the rotary planes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harope.rope.rotate import Layout

Matrices = Float[Tensor, "*heads head_dim head_dim"]
PerHead = Float[Tensor, "*heads"]


def singular_values(matrices: Matrices) -> Float[Tensor, "*heads head_dim"]:
    """Compute the singular values of every head's matrix, in descending order.

    Args:
        matrices: A of every head.

    Returns:
        Singular values, float64.
    """
    return torch.linalg.svdvals(matrices.double())


def nearest_rotation(matrices: Matrices) -> Matrices:
    """Compute the rotation Q nearest to A in the Frobenius norm: U V^T for A = U diag(s) V^T.

    Q is the orthogonal factor of the polar decomposition A = Q P. If that is a reflection
    (det A < 0), the direction of the smallest singular value is inverted (Kabsch 1976).

    Args:
        matrices: A of every head.

    Returns:
        Q of every head, float64, with determinant 1.
    """
    u, _, vh = torch.linalg.svd(matrices.double())
    sign = torch.ones_like(u[..., 0, :])
    sign[..., -1] = torch.linalg.det(u @ vh).sign()
    return (u * sign[..., None, :]) @ vh


def identity_distance(matrices: Matrices) -> PerHead:
    """Compute |A - I| / |I| in the Frobenius norm, with |I| = sqrt(head_dim).

    Args:
        matrices: A of every head.

    Returns:
        Distance of every head; 0 for A = I.
    """
    return _norm(matrices.double() - _eye(matrices))


def rotation_distance(matrices: Matrices) -> PerHead:
    """Compute |A - Q| / |I| with Q the nearest rotation.

    It measures stretching and reflection. For det A > 0 it equals sqrt(mean (s - 1)^2) over the
    singular values s.

    Args:
        matrices: A of every head.

    Returns:
        Distance of every head; 0 if A is a rotation.
    """
    return _norm(matrices.double() - nearest_rotation(matrices))


def rotation_magnitude(matrices: Matrices) -> PerHead:
    """Compute |Q - I| / |I| with Q the nearest rotation.

    It equals sqrt(mean of (2 - 2 cos angle)) over the planes of Q: 0 if A only stretches, 2 if Q
    rotates every plane by 180 degrees.

    Args:
        matrices: A of every head.

    Returns:
        Magnitude of every head, in [0, 2].
    """
    return _norm(nearest_rotation(matrices) - _eye(matrices))


def mixing(matrices: Matrices, groups: Int[Tensor, " head_dim"]) -> PerHead:
    """Compute the fraction of A that connects channels of different groups, in [0, 1].

        sum of A_ij^2 over groups[i] != groups[j]  /  sum of A_ij^2 over all i, j

    It is 0 if A is block-diagonal in the groups and 1 if A permutes the groups; a random A with g
    equal groups has 1 - 1/g.

    Args:
        matrices: A of every head.
        groups: Group of every channel: its axis (`axis_groups`) or its plane (`plane_groups`).

    Returns:
        Fraction of every head.
    """
    squares = matrices.double().square()
    across = groups[:, None] != groups
    return (squares * across).sum((-2, -1)) / squares.sum((-2, -1))


def plane_groups(head_dim: int, layout: Layout) -> Int[Tensor, " head_dim"]:
    """Return the rotary plane (pair) of every channel.

    Args:
        head_dim: Number of channels of a head, even.
        layout: Which channels form a pair.

    Returns:
        Index of the pair, from 0 to head_dim / 2 - 1.
    """
    pairs = torch.arange(head_dim // 2)
    return pairs.repeat(2) if layout == "half" else pairs.repeat_interleave(2)


def axis_groups(
    vectors: Float[Tensor, "axes heads pairs"], layout: Layout
) -> Int[Tensor, " head_dim"] | None:
    """Return the axis along which every channel is rotated.

    Args:
        vectors: Wave vector of each pair (`wave_vectors`).
        layout: Which channels form a pair.

    Returns:
        The axis, or -1 for a channel that is not rotated; None if a pair depends on several axes.
    """
    rotates = (vectors != 0).any(dim=1)
    if (rotates.sum(dim=0) > 1).any():
        return None
    axes = torch.where(rotates.any(dim=0), rotates.int().argmax(dim=0), -1)
    return axes[plane_groups(2 * vectors.shape[-1], layout)]


def deviation_cosines(matrices: Float[Tensor, "heads head_dim head_dim"]) -> Tensor:
    """Compute the cosine between A_g - I and A_h - I for all pairs of heads, (heads, heads).

    It is 1 if both deviate from the identity in the same direction, and 0 if the directions are
    orthogonal or a head does not deviate.

    Args:
        matrices: A of every head.

    Returns:
        Cosines of all pairs of heads, (heads, heads), float64.
    """
    deviation = (matrices.double() - _eye(matrices)).flatten(1)
    norms = deviation.norm(dim=1, keepdim=True)
    unit = deviation / norms.where(norms > 1e-12, torch.inf)
    return unit @ unit.T


def lowest_frequency_channels(
    vectors: Float[Tensor, "axes heads pairs"], layout: Layout
) -> Int[Tensor, " channels"]:
    """Return the channels of the lowest-frequency pair of every axis, which encode long distances.

    Args:
        vectors: Wave vector of each pair (`wave_vectors`).
        layout: Which channels form a pair.

    Returns:
        Channels in ascending order; empty if nothing rotates.
    """
    speed = vectors.norm(dim=0).mean(dim=0)
    rotates = (vectors != 0).any(dim=1)
    slowest = {int(speed.where(pairs, torch.inf).argmin()) for pairs in rotates if pairs.any()}
    planes = plane_groups(2 * vectors.shape[-1], layout)
    return torch.isin(planes, torch.tensor(sorted(slowest), dtype=torch.long)).nonzero()[:, 0]


def plane_angles(
    matrices: Float[Tensor, "heads head_dim head_dim"], channels: Int[Tensor, " channels"]
) -> Float[Tensor, "heads heads"]:
    """Compute the mean principal angle between the inputs of the same channels in two heads.

    The inputs of head h are the span of the rows A_h[channels]. The principal angles of two spans
    with orthonormal bases X, Y are arccos of the singular values of X^T Y (Björck & Golub 1973).

    Args:
        matrices: A of every head.
        channels: The channels to compare.

    Returns:
        Degrees, from 0 for equal spans to 90 for orthogonal ones.
    """
    bases = torch.linalg.qr(matrices.double()[:, channels].mT).Q
    overlap = torch.einsum("gdc,hde->ghce", bases, bases)
    return torch.rad2deg(torch.linalg.svdvals(overlap).clamp(max=1).acos().mean(dim=-1))


def _norm(matrices: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrices) / matrices.shape[-1] ** 0.5


def _eye(matrices: Tensor) -> Tensor:
    return torch.eye(matrices.shape[-1], dtype=torch.float64, device=matrices.device)

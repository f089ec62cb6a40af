"""What a head's matrix A does: how it stretches, turns and mixes channels, and how heads compare.

All in float64. A head's channels mean something to its own projection alone; heads are compared
channel by channel all the same, as A = I at the start of training makes their coordinates one.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harope.rope.rotate import Layout

Matrices = Float[Tensor, "*heads head_dim head_dim"]
PerHead = Float[Tensor, "*heads"]


def singular_values(matrices: Matrices) -> Float[Tensor, "*heads head_dim"]:
    """Of every head, the largest first."""
    return torch.linalg.svdvals(matrices.double())


def nearest_rotation(matrices: Matrices) -> Matrices:
    """The rotation Q nearest to A in the Frobenius norm: U V^T of A = U diag(s) V^T.

    It is the orthogonal factor of the polar decomposition A = Q P; where that mirrors (det A < 0),
    the direction of the smallest singular value is turned over (Kabsch 1976).
    """
    u, _, vh = torch.linalg.svd(matrices.double())
    sign = torch.ones_like(u[..., 0, :])
    sign[..., -1] = torch.linalg.det(u @ vh).sign()
    return (u * sign[..., None, :]) @ vh


def identity_distance(matrices: Matrices) -> PerHead:
    """|A - I| / |I| in the Frobenius norm, |I| = sqrt(head_dim)."""
    return _norm(matrices.double() - _eye(matrices))


def rotation_distance(matrices: Matrices) -> PerHead:
    """|A - Q| / |I| with Q the nearest rotation: sqrt(mean (s - 1)^2) for det A > 0.

    What no rotation can do: stretching, and mirroring.
    """
    return _norm(matrices.double() - nearest_rotation(matrices))


def turn(matrices: Matrices) -> PerHead:
    """|Q - I| / |I| with Q the nearest rotation, sqrt(mean over planes of (2 - 2 cos angle)).

    0: A only stretches along channels that stay where they are; 2: every plane makes a half turn.
    """
    return _norm(nearest_rotation(matrices) - _eye(matrices))


def mixing(matrices: Matrices, groups: Int[Tensor, " head_dim"]) -> PerHead:
    """Share of A that joins channels of different groups, in [0, 1].

        sum of A_ij^2 over groups[i] != groups[j]  /  sum of A_ij^2 over all i, j

    0 for A that is block-diagonal in the groups, 1 for a permutation of whole groups; a random A
    with g equal groups has 1 - 1/g. Groups are the axes that own the channels, or rotary planes.
    """
    squares = matrices.double().square()
    across = groups[:, None] != groups
    return (squares * across).sum((-2, -1)) / squares.sum((-2, -1))


def plane_groups(head_dim: int, layout: Layout) -> Int[Tensor, " head_dim"]:
    """The rotary plane (pair) that every channel is in."""
    pairs = torch.arange(head_dim // 2)
    return pairs.repeat(2) if layout == "half" else pairs.repeat_interleave(2)


def axis_groups(
    vectors: Float[Tensor, "axes heads pairs"], layout: Layout
) -> Int[Tensor, " head_dim"] | None:
    """The axis that turns every channel, -1 for none; None where a pair turns along several.

    Args:
        vectors: wave vector of each pair (`wave_vectors`).
        layout: which channels form a pair.
    """
    turns = (vectors != 0).any(dim=1)
    if (turns.sum(dim=0) > 1).any():
        return None
    axes = torch.where(turns.any(dim=0), turns.int().argmax(dim=0), -1)
    return axes[plane_groups(2 * vectors.shape[-1], layout)]


def deviation_cosines(matrices: Float[Tensor, "heads head_dim head_dim"]) -> Tensor:
    """Cosine of A_g - I and A_h - I for all pairs of heads, (heads, heads).

    1: both departed from the identity the same way; 0: in unrelated ways, or not at all.
    """
    deviation = (matrices.double() - _eye(matrices)).flatten(1)
    norms = deviation.norm(dim=1, keepdim=True)
    unit = deviation / norms.where(norms > 1e-12, torch.inf)
    return unit @ unit.T


def lowest_frequency_channels(
    vectors: Float[Tensor, "axes heads pairs"], layout: Layout
) -> Int[Tensor, " channels"]:
    """Channels of the slowest pair of every axis: those that tell far places apart."""
    speed = vectors.norm(dim=0).mean(dim=0)
    turns = (vectors != 0).any(dim=1)
    slowest = {int(speed.where(own, torch.inf).argmin()) for own in turns if own.any()}
    planes = plane_groups(2 * vectors.shape[-1], layout)
    return torch.isin(planes, torch.tensor(sorted(slowest), dtype=torch.long)).nonzero()[:, 0]


def plane_angles(
    matrices: Float[Tensor, "heads head_dim head_dim"], channels: Int[Tensor, " channels"]
) -> Float[Tensor, "heads heads"]:
    """Mean principal angle, in degrees, between what two heads feed into the same channels.

    Head h feeds them the span of the rows A_h[channels]. Principal angles of two spans with
    orthonormal bases X, Y are arccos of the singular values of X^T Y (Björck & Golub 1973).
    0: the same span; 90: orthogonal spans.
    """
    bases = torch.linalg.qr(matrices.double()[:, channels].mT).Q
    overlap = torch.einsum("gdc,hde->ghce", bases, bases)
    return torch.rad2deg(torch.linalg.svdvals(overlap).clamp(max=1).acos().mean(dim=-1))


def _norm(matrices: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrices) / matrices.shape[-1] ** 0.5


def _eye(matrices: Tensor) -> Tensor:
    return torch.eye(matrices.shape[-1], dtype=torch.float64, device=matrices.device)

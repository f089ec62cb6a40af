"""Every relative encoding by orthogonal matrices is mixed frequencies in an orthogonal basis."""

import pytest
import torch
from scipy.linalg import logm
from torch import Tensor

from harope.rope import RotaryEncoding, create_encoding, grid_positions, rotate
from harope.rope.basis import skew_entries
from support.encoding import HEAD_DIMS, make, queries, scores

CONTAINED = (
    *("axial", "rope", "partial", "dinov3", "video", "mrope", "mrope-interleaved", "mm-rope"),
    *("mhrope", "golden", "spiral", "simplex", "axial-learned", "mixed", "rethinking", "string"),
    *("string-circulant", "comrope-ap", "comrope-ld"),
)
SIZES = (3, 4)


def wave_vectors(encoding: RotaryEncoding) -> Tensor:
    """(axes, heads, pairs), from the angles at neighbours of the first token."""
    angles = encoding.angles(grid_positions(*SIZES).double()).double()
    angles = angles.expand(encoding.num_heads, -1, -1)
    return torch.stack([angles[:, SIZES[1]] - angles[:, 0], angles[:, 1] - angles[:, 0]])


def orthogonal_basis(encoding: RotaryEncoding) -> Tensor:
    """Q of every head, for pairs of neighbouring channels, in float64."""
    pairs = encoding.head_dim // 2
    matrices = encoding.matrices()
    basis = torch.eye(encoding.head_dim)[None] if matrices is None else matrices[0]
    if encoding.layout == "half":
        basis = basis[:, torch.arange(encoding.head_dim).unflatten(0, (2, pairs)).T.flatten()]
    return basis.expand(encoding.num_heads, -1, -1).double().clone()


@torch.no_grad()
def as_mixed(encoding: RotaryEncoding) -> RotaryEncoding:
    """The encoding of mixed frequencies in an orthogonal basis that computes the same scores."""
    vectors, basis = wave_vectors(encoding), orthogonal_basis(encoding)
    reflected = torch.linalg.det(basis) < 0
    # Turning a channel over makes a rotation of a reflection, and reverses the angle of its pair.
    basis[reflected, 1] *= -1
    vectors[:, reflected, 0] *= -1
    # Turning pairs by any angle changes no score, and keeps eigenvalues away from -1, where the
    # logarithm of a rotation is not unique.
    turns = torch.rand(encoding.head_dim // 2).double().expand(encoding.head_dim, -1)
    basis = rotate(basis.mT, turns.cos(), turns.sin()).mT
    mixed = create_encoding(
        "mixed-orthogonal", num_heads=encoding.num_heads, head_dim=encoding.head_dim
    ).double()
    mixed.frequencies.wave_vectors.copy_(vectors)
    for head, matrix in enumerate(basis):
        logarithm = torch.from_numpy(logm(matrix.numpy()).real)
        mixed.basis.skew[head] = skew_entries(logarithm)
    return mixed


@pytest.mark.parametrize("name", CONTAINED)
def test_the_encoding_is_mixed_frequencies_in_an_orthogonal_basis(name):
    encoding = make(name, 2, HEAD_DIMS.get(name, 12)).double()
    positions = grid_positions(*SIZES).double()
    q, k = (x.double() for x in queries(encoding, len(positions)))
    expected = scores(*encoding(q, k, positions))
    ours = scores(*as_mixed(encoding)(q, k, positions))
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-5)


def test_the_basis_of_harope_is_not_orthogonal():
    encoding = make("harope").double()
    matrices, _ = encoding.matrices()
    gram = matrices @ matrices.mT
    assert (gram - torch.eye(encoding.head_dim)).abs().max() > 0.1

import pytest
import torch

from harope.rope import RotaryEncoding, create_encoding
from support.encoding import make


def explicit_matrices(encoding: RotaryEncoding, head: int) -> torch.Tensor:
    """S_j of a head, in block-diagonal form: (blocks, head_dim, head_dim) in float64."""
    family, (q, _) = encoding.frequencies, encoding.matrices()
    pairs = family.block_size // 2
    basis = q[head].double()
    blocks = []
    for block in range(encoding.head_dim // family.block_size):
        canonical = torch.zeros(encoding.head_dim, encoding.head_dim).double()
        for pair in range(block * pairs, (block + 1) * pairs):
            value = family.eigenvalues[head, pair].double()
            canonical[2 * pair + 1, 2 * pair] = value
            canonical[2 * pair, 2 * pair + 1] = -value
        blocks.append(basis.T @ canonical @ basis)
    return torch.stack(blocks)


@pytest.mark.parametrize("name", ["comrope-ap", "comrope-ld"])
def test_scores_are_those_of_matrix_exponentials_of_the_definition(name):
    encoding = make(name, 2, 12, positions="index").double()
    positions = torch.rand(5, 2).double() * 4
    q, k = torch.randn(2, 1, 2, 5, 12).double()
    ours_q, ours_k = encoding(q, k, positions)
    for head in range(2):
        skew = explicit_matrices(encoding, head)
        if name == "comrope-ap":
            factors = positions[:, torch.arange(len(skew)) % 2]
        else:
            factors = positions @ encoding.frequencies.directions.double()
        rotations = torch.matrix_exp(torch.einsum("tj,jab->tab", factors, skew))
        expected_q = torch.einsum("tab,tb->ta", rotations, q[0, head])
        expected_k = torch.einsum("tab,tb->ta", rotations, k[0, head])
        ours = ours_q[0, head] @ ours_k[0, head].T
        torch.testing.assert_close(ours, expected_q @ expected_k.T, rtol=1e-6, atol=1e-6)


def test_the_generators_of_linearly_dependent_blocks_commute():
    encoding = make("comrope-ld", 1, 8, positions="index").double()
    skew = explicit_matrices(encoding, 0)
    directions = encoding.frequencies.directions.detach().double()
    one, other = torch.einsum("aj,jbc->abc", directions, skew)
    torch.testing.assert_close(one @ other, other @ one, rtol=0, atol=1e-9)


def test_blocks_of_two_partitioned_by_axes_are_learned_axial_frequencies():
    encoding = make("comrope-ap", 2, 8, block_size=2, basis="identity", positions="index")
    angles = encoding.angles(torch.tensor([[3.0, 0.0], [0.0, 5.0]]))
    values = encoding.frequencies.eigenvalues
    still = torch.zeros(2, 2)
    torch.testing.assert_close(angles[:, 0, 0::2], 3 * values[:, 0::2])
    torch.testing.assert_close(angles[:, 1, 1::2], 5 * values[:, 1::2])
    assert torch.equal(angles[:, 0, 1::2], still)
    assert torch.equal(angles[:, 1, 0::2], still)


def test_the_block_basis_is_orthogonal_and_acts_within_blocks():
    encoding = make("comrope-ap", 3, 12)
    matrices, same = encoding.matrices()
    assert same is matrices
    eye = torch.eye(12)
    torch.testing.assert_close(matrices @ matrices.mT, eye.expand(3, 12, 12), atol=1e-5, rtol=0)
    outside = torch.block_diag(*[torch.ones(4, 4)] * 3) == 0
    assert matrices[:, outside].abs().sum() == 0
    assert not torch.allclose(matrices, eye.expand(3, 12, 12))


def test_a_block_of_the_whole_head_is_the_orthogonal_basis():
    block = make("rethinking", 2, 8, basis="block-orthogonal", block_size=8, seed=3)
    whole = make("rethinking", 2, 8, seed=3)
    assert torch.equal(block.matrices()[0], whole.matrices()[0])


def test_initial_eigenvalues_are_those_of_random_matrices():
    torch.manual_seed(0)
    encoding = create_encoding("comrope-ld", num_heads=8, head_dim=64, block_size=8)
    entries = torch.randn(20000, 8, 8)
    expected = torch.linalg.svdvals(entries - entries.mT).square().mean()
    ours = encoding.frequencies.eigenvalues.square().mean()
    assert abs(ours / expected - 1) < 0.1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("comrope-ap", {"block_size": 3}, "block_size 3 must be even and divide head_dim 12"),
        ("comrope-ld", {"block_size": 8}, "block_size 8 must be even and divide head_dim 12"),
        ("comrope-ap", {"block_size": 12}, "has 1 blocks of 12, but there are 2 axes"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_encoding(name, num_heads=2, head_dim=12, **options)

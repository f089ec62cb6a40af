import pytest
import torch

from harope.rope import create_encoding, grid_positions, set_scaling
from support.encoding import make, queries, scores


def explicit_rotations(encoding, positions):
    """exp(sum_a p_a S_a) as full matrices, (tokens, head_dim, head_dim) in float64."""
    family = encoding.frequencies
    row, column = torch.triu_indices(family.block_size, family.block_size, 1)
    blocks = []
    for block in range(family.head_dim // family.block_size):
        upper = torch.zeros(len(positions), family.block_size, family.block_size).double()
        upper[:, row, column] = positions.double() @ family.generators[:, block].double()
        blocks.append(torch.matrix_exp(upper - upper.mT))
    return torch.stack([torch.block_diag(*(b[i] for b in blocks)) for i in range(len(positions))])


@pytest.mark.parametrize("block_size", [2, 4, 8])
def test_tokens_turn_by_the_exponential_of_their_position(block_size):
    encoding = make("liere", 3, 16, block_size=block_size, positions="index")
    positions = torch.rand(5, 2)
    q, k = queries(encoding, 5)
    rotations = explicit_rotations(encoding, positions)
    for x, out in zip((q, k), encoding(q, k, positions), strict=True):
        expected = torch.einsum("tij,bhtj->bhti", rotations, x.double())
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-5)


def test_positions_of_a_batch():
    encoding = make("liere", 2, 16, positions="index")
    positions = torch.rand(2, 5, 2)
    q, k = queries(encoding, 5)
    out_q, _ = encoding(q, k, positions)
    for sample in range(2):
        alone, _ = encoding(q[sample][None], k[sample][None], positions[sample])
        torch.testing.assert_close(out_q[sample], alone[0])


def shifted_scores(num_axes: int, block_size: int) -> float:
    """The largest change of scores when all positions move by 0.5 along every axis."""
    encoding = make("liere", 2, 16, num_axes=num_axes, block_size=block_size, positions="index")
    positions = grid_positions(*(3,) * num_axes) / 3
    q, k = queries(encoding, len(positions))
    here, there = encoding(q, k, positions), encoding(q, k, positions + 0.5)
    return (scores(*here) - scores(*there)).abs().max().item()


def test_scores_depend_on_more_than_offsets_unless_generators_commute():
    assert shifted_scores(num_axes=2, block_size=4) > 0.1
    assert shifted_scores(num_axes=2, block_size=8) > 0.1
    assert shifted_scores(num_axes=2, block_size=2) < 1e-3
    assert shifted_scores(num_axes=1, block_size=8) < 1e-3


def test_norms_are_kept():
    encoding = make("liere")
    q, k = queries(encoding, 9)
    for before, after in zip((q, k), encoding(q, k, grid_positions(3, 3)), strict=True):
        torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1), rtol=1e-5, atol=0)


def test_initial_entries_are_uniform_over_one_turn():
    torch.manual_seed(0)
    encoding = create_encoding("liere", num_heads=4, head_dim=64, block_size=64)
    generators = encoding.frequencies.generators
    assert generators.shape == (2, 1, 64 * 63 // 2)
    assert 0 <= generators.min() < 0.01
    assert 2 * torch.pi - 0.01 < generators.max() <= 2 * torch.pi


def test_there_are_no_angles():
    with pytest.raises(ValueError, match="its pairs have no angles"):
        make("liere").angles(grid_positions(2, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 6}, "block_size 6 must be even and divide head_dim 16"),
        ({"layout": "half"}, "layout has no effect"),
        ({"rotary_fraction": 0.5}, "rotary_fraction has no effect"),
        ({"theta": 10.0}, "theta has no effect"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_encoding("liere", num_heads=2, head_dim=16, **options)


def test_learned_generators_are_interpolated():
    encoding = make("liere", 2, 16, positions="index")
    plain = encoding.rotation_table(torch.ones(1, 2)).matrices
    set_scaling(encoding, "interpolate", train_sizes=(4, 4), sizes=(8, 8))
    scaled = encoding.rotation_table(2 * torch.ones(1, 2)).matrices
    torch.testing.assert_close(scaled, plain)
    with pytest.raises(ValueError, match="ntk scaling rescales a fixed spectrum"):
        set_scaling(encoding, "ntk", train_sizes=(4, 4), sizes=(8, 8))

"""Orthogonal matrices from skew generators."""

import pytest
import torch

from harope.rope.orthogonal import (
    num_skew_entries,
    orthogonal_from_entries,
    skew_entries,
    skew_matrix,
)

DIMS = [1, 2, 3, 8]


@pytest.mark.parametrize("dim", DIMS)
def test_skew_matrix_is_skew_and_holds_its_entries_above_the_diagonal(dim):
    entries = torch.randn(3, num_skew_entries(dim))
    matrix = skew_matrix(entries, dim)
    assert torch.equal(matrix, -matrix.mT)
    above = torch.ones(dim, dim).triu(1).bool()
    assert torch.equal(matrix[:, above], entries)


@pytest.mark.parametrize("dim", DIMS)
def test_skew_entries_undo_skew_matrix(dim):
    entries = torch.randn(2, num_skew_entries(dim))
    assert torch.equal(skew_entries(skew_matrix(entries, dim)), entries)


def test_skew_entries_ignore_the_symmetric_part():
    matrix = torch.randn(2, 5, 5, dtype=torch.float64)
    symmetric = torch.randn(5, 5, dtype=torch.float64)
    moved = skew_entries(matrix + symmetric + symmetric.T)
    torch.testing.assert_close(moved, skew_entries(matrix))
    torch.testing.assert_close(skew_matrix(moved, 5), (matrix - matrix.mT) / 2)


def test_exponential_of_three_entries_is_rodrigues_rotation():
    a, b, c = -0.4, 0.9, 1.7
    # S v = axis x v has S_01 = -z, S_02 = y, S_12 = -x.
    axis = torch.tensor([-c, b, -a], dtype=torch.float64)
    angle = axis.norm()
    unit = axis / angle
    vector = torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64)
    turned = (
        vector * angle.cos()
        + torch.linalg.cross(unit, vector) * angle.sin()
        + unit * (unit @ vector) * (1 - angle.cos())
    )
    entries = torch.tensor([a, b, c], dtype=torch.float64)
    torch.testing.assert_close(orthogonal_from_entries(entries, 3, "exp") @ vector, turned)


def test_cayley_is_i_minus_s_times_the_inverse_of_i_plus_s():
    entries = torch.randn(4, num_skew_entries(6), dtype=torch.float64)
    skew, eye = skew_matrix(entries, 6), torch.eye(6, dtype=torch.float64)
    expected = (eye - skew) @ torch.linalg.inv(eye + skew)
    torch.testing.assert_close(orthogonal_from_entries(entries, 6, "cayley"), expected)


@pytest.mark.parametrize("orthogonal_map", ["exp", "cayley"])
@pytest.mark.parametrize("dim", DIMS)
def test_both_maps_give_rotations(orthogonal_map, dim):
    entries = 2 * torch.randn(3, num_skew_entries(dim))
    matrix = orthogonal_from_entries(entries, dim, orthogonal_map)
    eye = torch.eye(dim).expand(3, -1, -1)
    torch.testing.assert_close(matrix @ matrix.mT, eye, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("orthogonal_map", ["exp", "cayley"])
def test_no_rotation_is_exactly_the_identity(orthogonal_map):
    matrix = orthogonal_from_entries(torch.zeros(2, 6), 4, orthogonal_map)
    assert torch.equal(matrix, torch.eye(4).expand(2, -1, -1))


@pytest.mark.parametrize("orthogonal_map", ["exp", "cayley"])
def test_bfloat16_entries_are_computed_in_float32(orthogonal_map):
    entries = torch.randn(2, 6).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        matrix = orthogonal_from_entries(entries, 4, orthogonal_map)
    assert torch.equal(matrix, orthogonal_from_entries(entries.float(), 4, orthogonal_map))

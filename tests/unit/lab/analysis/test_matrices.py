import math

import pytest
import torch

from harope.lab.analysis.matrices import (
    axis_groups,
    deviation_cosines,
    identity_distance,
    lowest_frequency_channels,
    mixing,
    nearest_rotation,
    plane_angles,
    plane_groups,
    rotation_distance,
    rotation_magnitude,
    singular_values,
)
from harope.rope.basis import orthogonal_from_entries


def rotation(angle: float) -> torch.Tensor:
    """Of the first two of four channels."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
        dtype=torch.float64,
    )
    return matrix


def random_rotations(count: int, dim: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    entries = torch.randn(count, dim * (dim - 1) // 2, generator=generator).double()
    return orthogonal_from_entries(entries, dim, "exp")


def test_the_identity_is_at_distance_zero_from_everything():
    eye = torch.eye(6)[None]
    for distance in (identity_distance, rotation_distance, rotation_magnitude):
        assert distance(eye).item() == pytest.approx(0, abs=1e-12)
    assert (singular_values(eye) == 1).all()


def test_a_diagonal_matrix_stretches_and_does_not_turn():
    matrix = torch.tensor([3.0, 1.0, 2.0, 0.5]).diag()
    assert singular_values(matrix).tolist() == [3.0, 2.0, 1.0, 0.5]
    expected = math.sqrt((4 + 0 + 1 + 0.25) / 4)
    assert identity_distance(matrix).item() == pytest.approx(expected)
    assert rotation_distance(matrix).item() == pytest.approx(expected)
    assert rotation_magnitude(matrix).item() == pytest.approx(0, abs=1e-12)


def test_a_rotation_turns_and_does_not_stretch():
    matrix = rotation(0.7)
    # One plane of two turns.
    expected = math.sqrt((2 - 2 * math.cos(0.7)) / 2)
    assert rotation_distance(matrix).item() == pytest.approx(0, abs=1e-12)
    assert rotation_magnitude(matrix).item() == pytest.approx(expected)
    assert identity_distance(matrix).item() == pytest.approx(expected)


def test_the_nearest_rotation_of_a_stretched_rotation_is_the_rotation():
    q = random_rotations(3, 6)
    stretch = torch.eye(6, dtype=torch.float64) * 0.8
    stretch[0, 0], stretch[0, 1], stretch[1, 0] = 2.0, 0.1, 0.1
    assert torch.allclose(nearest_rotation(q @ stretch), q, atol=1e-6)


def test_a_mirror_is_not_its_own_nearest_rotation():
    mirror = torch.tensor([1.0, 1.0, 1.0, -1.0]).diag()
    found = nearest_rotation(mirror)
    assert torch.linalg.det(found).item() == pytest.approx(1)
    # |diag(.., -1) - diag(.., 1)| / 2 = 2 / 2, and no rotation is nearer.
    assert rotation_distance(mirror).item() == pytest.approx(1)


AXES = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])


def test_a_block_diagonal_matrix_mixes_no_axes():
    matrix = torch.block_diag(torch.randn(4, 4), torch.randn(4, 4))
    assert mixing(matrix, AXES).item() == 0
    assert mixing(matrix, plane_groups(8, "interleaved")).item() > 0


def test_exchanging_the_axes_mixes_all():
    matrix = torch.eye(8).roll(4, dims=0)
    assert mixing(matrix, AXES).item() == 1


def test_equal_entries_mix_by_the_number_of_groups():
    ones = torch.ones(2, 8, 8)
    assert mixing(ones, AXES).tolist() == [0.5, 0.5]
    assert mixing(ones, plane_groups(8, "half")).tolist() == [0.75, 0.75]


def test_planes_follow_the_layout():
    assert plane_groups(6, "interleaved").tolist() == [0, 0, 1, 1, 2, 2]
    assert plane_groups(6, "half").tolist() == [0, 1, 2, 0, 1, 2]


def test_channels_belong_to_the_axis_that_turns_them():
    vectors = torch.tensor([[[1.0, 0.1, 0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 0.1, 0.0]]])
    found = axis_groups(vectors, "interleaved")
    assert found is not None
    assert found.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, -1, -1]
    vectors[1, 0, 0] = 0.5
    assert axis_groups(vectors, "interleaved") is None


def test_the_slowest_pair_of_every_axis():
    vectors = torch.tensor([[[1.0, 0.1, 0.0, 0.0]], [[0.0, 0.0, 1.0, 0.1]]])
    assert lowest_frequency_channels(vectors, "interleaved").tolist() == [2, 3, 6, 7]
    assert lowest_frequency_channels(vectors, "half").tolist() == [1, 3, 5, 7]


def test_heads_that_departed_alike_have_cosine_one():
    eye, step = torch.eye(4), torch.randn(4, 4)
    cosines = deviation_cosines(torch.stack([eye + step, eye + 3 * step, eye - step, eye]))
    expected = torch.tensor([[1, 1, -1, 0], [1, 1, -1, 0], [-1, -1, 1, 0], [0, 0, 0, 0]])
    assert torch.allclose(cosines, expected.double(), atol=1e-6)


def test_angles_between_what_feeds_the_same_channels():
    channels = torch.tensor([0, 1])
    apart = torch.eye(4).roll(2, dims=0)
    # Turning inside the span leaves it as it was.
    matrices = torch.stack([torch.eye(4).double(), apart.double(), rotation(0.3)])
    expected = torch.tensor([[0.0, 90, 0], [90, 0, 90], [0, 90, 0]]).double()
    assert torch.allclose(plane_angles(matrices, channels), expected, atol=1e-5)

"""Positions: grids, text before images, video."""

import pytest
import torch

from harope.rope import grid_positions, text_image_positions, video_positions
from harope.rope.positions import as_positions


def test_grid_has_columns_y_x_and_counts_x_fastest():
    expected = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    positions = grid_positions(2, 3)
    assert positions.dtype == torch.float32
    assert positions.tolist() == expected


def test_grid_takes_any_number_of_axes():
    assert grid_positions(3).tolist() == [[0], [1], [2]]
    assert grid_positions(2, 1, 2).tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]


def test_text_stands_at_the_origin_before_the_image():
    expected = [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert text_image_positions(2, 2, 2).tolist() == expected


def test_an_image_needs_no_text():
    assert torch.equal(text_image_positions(0, 2, 3), grid_positions(1, 2, 3))


def test_video_is_centred_on_the_diagonal_after_its_text():
    positions = video_positions(2, 3, 2, num_text=2, frame_stride=2.0)
    assert positions[:2].tolist() == [[0, 0, 0], [1, 1, 1]]
    # t = 2 and 4; rows -1, 0, 1 around t, and columns 0, 1 as (2 - 1) // 2 = 0.
    first = [[2, 1, 2], [2, 1, 3], [2, 2, 2], [2, 2, 3], [2, 3, 2], [2, 3, 3]]
    assert positions[2:8].tolist() == first
    assert torch.equal(positions[8:], positions[2:8] + 2)


@pytest.mark.parametrize("sizes", [(), (0,), (4, -1)])
def test_grid_sizes_must_be_positive(sizes):
    with pytest.raises(
        ValueError, match=r"grid sizes must be positive.*pass one per axis"
    ) as error:
        grid_positions(*sizes)
    assert str(sizes) in str(error.value)


@pytest.mark.parametrize("build", [text_image_positions, video_positions])
def test_a_negative_text_length_is_refused(build):
    arguments = {"num_text": -2, "height": 2, "width": 2}
    frames = {"frames": 1} if build is video_positions else {}
    with pytest.raises(ValueError, match=r"num_text -2 must be 0 or more"):
        build(**frames, **arguments)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32])
def test_positions_become_float32(dtype):
    assert as_positions(torch.ones(3, 2, dtype=dtype), 2).dtype == torch.float32


def test_float64_positions_stay():
    assert as_positions(torch.ones(3, 2, dtype=torch.float64), 2).dtype == torch.float64


@pytest.mark.parametrize("shape", [(3,), (3, 3), (2, 3, 1), (1, 1, 3, 2)])
@pytest.mark.usefixtures("annotations_unchecked")
def test_positions_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"has 2 axes: pass \(tokens, 2\)") as error:
        as_positions(torch.zeros(shape), 2)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_positions_are_refused(dtype):
    with pytest.raises(ValueError, match=rf"positions are {dtype}.*build them in float32"):
        as_positions(torch.zeros(3, 2, dtype=dtype), 2)

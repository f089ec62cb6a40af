import pytest
import torch

from harope.rope import create_encoding, grid_positions, set_scaling, text_images_positions
from harope.rope.position_maps import CenteredPositions, IndexPositions, UnitPositions
from harope.rope.positions import normalize_positions


def test_centered_positions_are_the_centres_of_tokens_from_minus_1_to_1():
    out = CenteredPositions(2)(grid_positions(2, 4))
    assert out[:, 0].tolist() == [-0.5] * 4 + [0.5] * 4
    assert out[:4, 1].tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_unit_positions_are_the_centres_of_tokens_from_0_to_1():
    assert UnitPositions(1)(grid_positions(4))[:, 0].tolist() == [0.125, 0.375, 0.625, 0.875]


@pytest.mark.parametrize(("by", "size"), [("max", 4), ("min", 2)])
def test_axes_can_be_divided_by_the_size_of_one_of_them(by, size):
    out = UnitPositions(2, by=by)(grid_positions(2, 4))
    assert torch.equal(out, (grid_positions(2, 4) + 0.5) / size)


def test_sizes_of_the_training_take_the_place_of_the_extent():
    out = UnitPositions(1, sizes=(8,))(grid_positions(4))
    assert torch.equal(out, (grid_positions(4) + 0.5) / 8)


def test_every_sample_has_an_extent_of_its_own():
    small, large = grid_positions(2, 2), grid_positions(1, 4)
    out = UnitPositions(2)(torch.stack([small, large + 5]))
    assert torch.equal(out[0], (small + 0.5) / 2)
    assert torch.equal(out[1], (large + 0.5) / torch.tensor([1, 4]))


def test_no_tokens_have_no_extent():
    assert CenteredPositions(2)(torch.zeros(0, 2)).shape == (0, 2)
    assert normalize_positions(torch.zeros(3, 0, 2)).shape == (3, 0, 2)


def test_a_scaling_divides_by_the_trained_size_so_that_methods_differ():
    encoding = create_encoding("dinov3", num_heads=1, head_dim=8)
    plain = encoding.angles(grid_positions(4, 4))
    ends = encoding.angles(grid_positions(8, 8))[[0, -1]]
    torch.testing.assert_close(ends[0], -ends[1])
    assert not torch.allclose(ends[0], plain[0])
    set_scaling(encoding, "extrapolate", train_sizes=(4, 4), sizes=(8, 8))
    longer = encoding.angles(grid_positions(8, 8)).unflatten(0, (8, 8))
    assert torch.equal(longer[:4, :4].flatten(0, 1), plain)
    with pytest.raises(ValueError, match="yarn scaling counts turns per token"):
        set_scaling(encoding, "yarn", train_sizes=(4, 4), sizes=(8, 8))


def test_factors_per_axis():
    positions = grid_positions(2, 2, 2)
    scaled = IndexPositions(3, axis_scale=(4.0, 8.0, 8.0))(positions)
    assert torch.equal(scaled, positions * torch.tensor([4, 8, 8]))
    assert torch.equal(
        CenteredPositions(1, axis_scale=(2.0,))(grid_positions(3)),
        2 * CenteredPositions(1)(grid_positions(3)),
    )


def test_augmentation_moves_positions_in_training_alone():
    maps = CenteredPositions(2, shift=0.5, jitter=2.0, rescale=3.0)
    positions = grid_positions(3, 3)
    plain = CenteredPositions(2)(positions)
    assert torch.equal(maps.eval()(positions), plain)
    maps.train()
    torch.manual_seed(0)
    factors = []
    for _ in range(200):
        moved = maps(positions)
        # Affine per axis: equal steps between the rows, and between the columns.
        grid = moved.unflatten(0, (3, 3))
        steps = torch.stack([grid[1, 0, 0] - grid[0, 0, 0], grid[0, 1, 1] - grid[0, 0, 1]])
        torch.testing.assert_close(grid[2, 0, 0] - grid[1, 0, 0], steps[0])
        factors.append(1.5 * steps)
    drawn = torch.stack(factors)
    assert drawn.min() >= 1 / 6 - 1e-6
    assert drawn.max() <= 6 + 1e-5
    assert not torch.allclose(drawn[:, 0], drawn[:, 1])


def test_a_random_shift_leaves_scores_as_they_are_and_a_random_factor_does_not():
    shifted = create_encoding("dinov3", num_heads=2, head_dim=8, position_shift=0.5)
    rescaled = create_encoding("dinov3", num_heads=2, head_dim=8, position_rescale=2.0)
    q, k = torch.randn(2, 1, 2, 9, 8)
    for encoding, same in ((shifted, True), (rescaled, False)):
        scores = []
        for mode in (True, False):
            out = encoding.train(mode)(q, k, grid_positions(3, 3))
            scores.append(out[0] @ out[1].mT)
        assert torch.allclose(*scores, atol=1e-5) == same


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis_scale": (1.0,)}, "axis_scale .* names 1 axes but num_axes is 2"),
        ({"grid_sizes": (4,)}, "grid_sizes .* name 1 axes but num_axes is 2"),
        ({"position_jitter": 0.5}, "position_jitter 0.5 must be at least 1"),
        ({"position_shift": -1.0}, "position_shift -1.0 must not be negative"),
        ({"frequencies": "raster"}, "raster frequencies count tokens"),
        ({"frequencies": "none"}, "need frequencies that see them"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_encoding("dinov3", num_heads=2, head_dim=8, **options)


def test_normalization_has_no_effect_on_indices():
    with pytest.raises(ValueError, match="normalize_by has no effect"):
        create_encoding("axial", num_heads=2, head_dim=8, normalize_by="max")


def test_positions_of_text_images_and_videos_follow_each_other():
    out = text_images_positions(2, (1, 3), 1, (2, 1, 2))
    assert out.tolist() == [
        [0, 0, 0],
        [1, 1, 1],
        [2, 2, 2],
        [2, 2, 3],
        [2, 2, 4],
        [5, 5, 5],
        [6, 6, 6],
        [6, 6, 7],
        [7, 6, 6],
        [7, 6, 7],
    ]
    with pytest.raises(ValueError, match=r"part \(1, 2, 3, 4\) must be"):
        text_images_positions((1, 2, 3, 4))
    assert text_images_positions().shape == (0, 3)

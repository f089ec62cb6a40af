import math

import pytest
import torch

from harope.rope import Scaling, create_encoding
from harope.rope.directions import Golden, Simplex, Spiral, golden_directions, simplex
from harope.rope.frequencies import spectrum

CPU = torch.device("cpu")


# --- golden gate


def test_golden_directions_are_those_of_the_formula():
    plastic = 1.324717957244746
    for number in (1, 7):
        fractions = torch.tensor([number / plastic % 1, number / plastic**2 % 1]).double()
        expected = torch.erfinv(2 * fractions - 1)
        ours = golden_directions(number, 2, CPU)[:, -1]
        torch.testing.assert_close(ours, expected / expected.norm(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_golden_directions_are_even_over_all_heads_and_pairs(num_axes):
    vectors = golden_directions(384, num_axes, CPU)
    torch.testing.assert_close(vectors.norm(dim=0), torch.ones(384).double())
    assert vectors.mean(dim=1).abs().max() < 0.02
    spread = vectors @ vectors.T / 384
    assert (spread - torch.eye(num_axes).double() / num_axes).abs().max() < 0.01


def test_golden_directions_of_one_axis_are_signs():
    vectors = golden_directions(20, 1, CPU)
    assert set(vectors.flatten().tolist()) == {-1.0, 1.0}


def test_golden_magnitudes_ascend_geometrically_between_their_bounds():
    vectors = Golden(16, 2, num_heads=2, min_frequency=0.5, max_frequency=8.0).wave_vectors(CPU)
    magnitudes = vectors.norm(dim=0)
    expected = 0.5 * 16 ** (torch.arange(8) / 7)
    torch.testing.assert_close(magnitudes, expected.expand(2, 8))
    assert not torch.allclose(vectors[:, 0], vectors[:, 1])


def test_the_highest_of_ascending_frequencies_are_not_the_first():
    with pytest.raises(ValueError, match="golden frequencies ascend"):
        create_encoding(
            "golden", num_heads=2, head_dim=8, rotary_fraction=0.5, rotary_spectrum="full"
        )


def test_golden_bounds_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"min_frequency 30\.0 is above max_frequency 20\.0"):
        create_encoding("golden", num_heads=2, head_dim=8, min_frequency=30)


# --- spiral


def test_two_spiral_directions_are_axial():
    shape = {"num_heads": 1, "head_dim": 16}
    positions = torch.rand(5, 2)
    spiral = create_encoding("spiral", num_directions=2, **shape).angles(positions)
    axial = create_encoding("axial", **shape).angles(positions)
    torch.testing.assert_close(spiral, axial, rtol=1e-6, atol=1e-7)


def test_spiral_deals_out_neighbouring_frequencies_to_perpendicular_directions():
    vectors = Spiral(32, num_directions=4).wave_vectors(CPU)[:, 0]
    values = spectrum(16, 10000.0)
    used = [[0, 1, 4, 5], [2, 3, 6, 7]] * 2
    for direction, indices in enumerate(used):
        angle = direction * math.pi / 4
        unit = torch.tensor([math.cos(angle), math.sin(angle)])
        block = vectors[:, 4 * direction : 4 * direction + 4]
        torch.testing.assert_close(block, unit[:, None] * values[indices], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("head_dim", "directions"), [(32, 4), (64, 4), (64, 8), (128, 8)])
def test_spiral_is_isotropic_and_has_every_frequency_twice(head_dim, directions):
    vectors = Spiral(head_dim, num_directions=directions).wave_vectors(CPU)[:, 0].double()
    spread = vectors @ vectors.T
    torch.testing.assert_close(spread, spread[0, 0] * torch.eye(2).double(), atol=1e-6, rtol=1e-6)
    magnitudes = vectors.norm(dim=0).sort(descending=True).values
    expected = spectrum(head_dim // 2, 10000.0).double().repeat_interleave(2)
    torch.testing.assert_close(magnitudes, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_axes": 3}, "only defined for the 2 axes of an image, got num_axes 3"),
        ({"head_dim": 24}, "head_dim 24 cannot be shared by 4 directions: .* multiple of 16"),
        ({"num_directions": 3}, "num_directions 3 must be even"),
    ],
)
def test_heads_that_cannot_be_shared_by_directions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_encoding("spiral", **{"num_heads": 1, "head_dim": 32} | options)


# --- simplex


@pytest.mark.parametrize("num_axes", [1, 2, 3, 4])
def test_the_corners_of_a_simplex(num_axes):
    corners = simplex(num_axes, CPU)
    cosines = torch.full((num_axes + 1,) * 2, -1 / num_axes).double().fill_diagonal_(1)
    torch.testing.assert_close(corners.T @ corners, cosines)
    torch.testing.assert_close(corners.sum(1), torch.zeros(num_axes).double())


@pytest.mark.parametrize(("num_axes", "head_dim"), [(1, 12), (2, 66), (2, 64), (3, 64)])
def test_simplex_is_isotropic_at_every_scale_and_head(num_axes, head_dim):
    vectors = Simplex(head_dim, num_axes, num_heads=3, theta=50.0).wave_vectors(CPU).double()
    scales = head_dim // (2 * (num_axes + 1))
    left = head_dim // 2 - scales * (num_axes + 1)
    assert vectors[..., head_dim // 2 - left :].abs().sum() == 0
    kept = vectors[..., : head_dim // 2 - left].unflatten(-1, (num_axes + 1, scales))
    spread = torch.einsum("ahms,bhms->hsab", kept, kept)
    size = 50.0 ** (-2 * torch.arange(scales).double() / scales) * (num_axes + 1) / num_axes
    expected = size[:, None, None] * torch.eye(num_axes).double()
    torch.testing.assert_close(spread, expected.expand_as(spread), rtol=1e-5, atol=1e-7)


def test_simplex_heads_are_turned_against_each_other():
    vectors = Simplex(12, 2, num_heads=4).wave_vectors(CPU)
    directions = vectors[:, :, 0]
    cosines = directions.T @ directions
    assert cosines.fill_diagonal_(0).max() < 0.999


def test_heads_with_fewer_pairs_than_corners_are_refused():
    with pytest.raises(ValueError, match="3 pairs, fewer than the 4 directions"):
        create_encoding("simplex", num_heads=1, head_dim=6, num_axes=3)


@pytest.mark.parametrize("name", ["golden", "spiral", "simplex"])
def test_wave_vectors_that_mix_axes_have_no_spectrum_to_rescale(name):
    encoding = create_encoding(name, num_heads=1, head_dim=16, positions="index")
    with pytest.raises(ValueError, match="ntk scaling rescales the spectrum of an axis"):
        encoding.frequencies.check_scaling(_scaling("ntk"))
    encoding.frequencies.set_scaling(_scaling("interpolate"))
    scaled = encoding.angles(torch.tensor([[4.0, 6.0]]))
    encoding.frequencies.set_scaling(None)
    torch.testing.assert_close(scaled, encoding.angles(torch.tensor([[2.0, 3.0]])))


def _scaling(method):
    return Scaling(method=method, train_sizes=(4, 4), sizes=(8, 8))

"""Frequencies: angles in closed form, and the initial values of learned ones."""

import math

import pytest
import torch

from harope.rope import grid_positions
from harope.rope.circulant import Circulant
from harope.rope.frequencies import Axial, Mixed, Raster
from harope.rope.sectioned import Video
from support.encoding import randomise


def powers(theta: float, dim: int) -> list[float]:
    return [theta ** (-2 * j / dim) for j in range(dim // 2)]


def close(ours: torch.Tensor, expected: list[float], atol: float = 0.0) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(ours.double(), wanted, rtol=3e-7, atol=atol)


# --- raster


def test_raster_counts_tokens_row_by_row():
    angles = Raster(8, 2)(grid_positions(3, 5))
    close(angles[13], [13 * w for w in powers(10000, 8)])
    assert angles.shape == (15, 4)


def test_raster_in_three_axes_counts_the_last_fastest():
    angles = Raster(2, 3)(grid_positions(2, 3, 4))
    assert angles[:, 0].tolist() == list(range(24))


def test_raster_takes_the_row_length_it_is_given():
    angles = Raster(2, 2, row_sizes=(9, 100))(torch.tensor([[2.0, 5.0], [0.0, 1.0]]))
    assert angles[:, 0].tolist() == [205, 1]


def test_raster_measures_the_rows_of_every_sample_alone():
    batch = torch.stack([grid_positions(2, 6), grid_positions(4, 3)])
    angles = Raster(2, 2)(batch)
    assert angles[:, 0, :, 0].tolist() == [list(range(12))] * 2


def test_raster_row_sizes_must_name_all_axes():
    with pytest.raises(ValueError, match=r"row_sizes \(4,\) names 1 axes but num_axes is 2"):
        Raster(8, 2, row_sizes=(4,))


# --- axial


def test_axial_gives_rows_the_first_block_and_columns_the_second():
    angles = Axial(16, 2)(torch.tensor([[3.0, 7.0]]))
    spectrum = powers(10000, 8)
    close(angles[0], [3 * w for w in spectrum] + [7 * w for w in spectrum])


def test_axial_takes_blocks_of_any_size():
    angles = Axial(14, 3, axes_dim=(2, 8, 4), theta=100.0)(torch.tensor([[3.0, 5.0, 7.0]]))
    blocks = [[p * w for w in powers(100, d)] for p, d in ((3, 2), (5, 8), (7, 4))]
    close(angles[0], blocks[0] + blocks[1] + blocks[2])


def test_an_axis_may_own_no_channels():
    angles = Axial(4, 2, axes_dim=(0, 4))(torch.tensor([[9.0, 2.0]]))
    close(angles[0], [2 * w for w in powers(10000, 4)])


def test_learned_axial_frequencies_start_at_the_fixed_ones_for_every_head():
    learned, fixed = Axial(8, 2, num_heads=3, learned=True), Axial(8, 2)
    positions = grid_positions(4, 4)
    assert learned.learned
    assert not fixed.learned
    assert learned(positions).shape == (3, 16, 4)
    for head in learned(positions):
        torch.testing.assert_close(head, fixed(positions), rtol=0, atol=0)


def test_learned_axial_frequencies_stay_on_their_axis():
    frequencies = Axial(8, 2, num_heads=2, learned=True)
    randomise(frequencies)
    angles = frequencies(torch.tensor([[3.0, 0.0], [0.0, 5.0]]))
    own = frequencies.inv_freq.detach()
    assert torch.equal(angles[:, 0], torch.cat([3 * own[:, :2], 0 * own[:, 2:]], dim=-1))
    assert torch.equal(angles[:, 1], torch.cat([0 * own[:, :2], 5 * own[:, 2:]], dim=-1))


@pytest.mark.parametrize(
    ("head_dim", "num_axes", "message"),
    [
        (6, 2, r"head_dim 6 cannot be shared equally by 2 axes: it must be a multiple of 4"),
        (7, 1, r"head_dim 7 cannot be split into pairs: it must be even"),
        (0, 1, r"head_dim 0 cannot be split into pairs"),
    ],
)
def test_axial_head_dim_must_suit_the_axes(head_dim, num_axes, message):
    with pytest.raises(ValueError, match=message):
        Axial(head_dim, num_axes)


@pytest.mark.parametrize("axes_dim", [(4, 2), (3, 5), (10, -2)])
def test_axes_dim_must_be_even_and_sum_to_head_dim(axes_dim):
    with pytest.raises(ValueError, match=r"head_dim is 8: pass even entries") as error:
        Axial(8, 2, axes_dim=axes_dim)
    assert f"axes_dim {axes_dim} sums to {sum(axes_dim)}" in str(error.value)


def test_axes_dim_must_name_all_axes():
    with pytest.raises(ValueError, match=r"axes_dim \(8,\) names 1 axes but num_axes is 2"):
        Axial(8, 2, axes_dim=(8,))


# --- mixed


def test_mixed_starts_along_one_random_direction_per_head_and_across_it():
    torch.manual_seed(0)
    f_y, f_x = Mixed(16, 2, num_heads=5, theta=10.0).wave_vectors.detach()
    magnitudes = [10 ** (-4 * j / 16) for j in range(4)]
    for head in range(5):
        phi = math.atan2(f_y[head, 0], f_x[head, 0])
        turned = phi + math.pi / 2
        close(f_x[head], [m * math.cos(a) for a in (phi, turned) for m in magnitudes], atol=1e-6)
        close(f_y[head], [m * math.sin(a) for a in (phi, turned) for m in magnitudes], atol=1e-6)


def test_mixed_directions_are_uniform_over_heads_and_differ_between_layers():
    torch.manual_seed(0)
    f_y, f_x = Mixed(4, 2, num_heads=4000).wave_vectors.detach()
    phi = torch.atan2(f_y[:, 0], f_x[:, 0])
    # Kolmogorov-Smirnov: 1.63 / sqrt(n) is the distance that chance exceeds once in 100.
    ranks = (phi.sort().values + math.pi) / (2 * math.pi)
    assert (ranks - torch.linspace(0, 1, 4000)).abs().max() < 1.63 / 4000**0.5
    assert not torch.equal(f_y, Mixed(4, 2, num_heads=4000).wave_vectors.detach()[0])


@pytest.mark.parametrize("num_axes", [1, 2, 3, 4])
def test_mixed_starts_along_orthogonal_directions_in_any_number_of_axes(num_axes):
    vectors = Mixed(4 * num_axes, num_axes, num_heads=3).wave_vectors.detach()
    blocks = vectors.permute(1, 2, 0).unflatten(1, (num_axes, 2))
    # Per head, the highest frequencies of the n blocks are unit vectors at right angles.
    gram = blocks[:, :, 0] @ blocks[:, :, 0].mT
    torch.testing.assert_close(gram, torch.eye(num_axes).expand(3, -1, -1), rtol=0, atol=1e-6)
    length = blocks[:, :, 1].norm(dim=-1)
    torch.testing.assert_close(length, torch.full_like(length, 10 ** (-2 / 4)))


def test_mixed_angles_are_products_of_wave_vectors_and_positions():
    frequencies = Mixed(8, 2, num_heads=3)
    f_y, f_x = frequencies.wave_vectors.detach()
    angles = frequencies(torch.tensor([[2.0, 5.0]]))
    torch.testing.assert_close(angles[:, 0], 2 * f_y + 5 * f_x)


# --- video


def test_video_alternates_height_and_width_and_leaves_the_low_quarter_to_time():
    w = powers(10000, 16)
    angles = Video(16, 3)(torch.tensor([[11.0, 3.0, 5.0]]))
    places = [3, 5, 3, 5, 3, 5, 11, 11]
    close(angles[0], [place * frequency for place, frequency in zip(places, w, strict=True)])


def test_video_of_a_still_image_leaves_the_time_pairs_alone():
    w = powers(10000, 16)
    angles = Video(16, 2)(torch.tensor([[3.0, 5.0]]))
    places = [3, 5, 3, 5, 3, 5, 0, 0]
    close(angles[0], [place * frequency for place, frequency in zip(places, w, strict=True)])


def test_video_needs_two_or_three_axes():
    with pytest.raises(ValueError, match=r"got num_axes 1: pass 2 or 3, or use axial"):
        Video(8, 1)


# --- circulant


def test_circulant_starts_at_the_plain_spectrum_dealt_to_the_axes():
    frequencies = Circulant(8, 2, num_heads=3)
    w = powers(10000, 8)
    angles = frequencies(torch.tensor([[3.0, 5.0]]))
    # Pair 0 cannot turn; pair j is bound to axis j mod 2.
    for head in range(3):
        close(angles[head, 0], [0, 5 * w[0], 3 * w[1], 5 * w[2]], atol=1e-6)


def test_circulant_angles_are_the_sine_transform_of_its_columns():
    frequencies = Circulant(10, 3, num_heads=2)
    randomise(frequencies)
    positions = torch.randn(4, 3)
    transform = torch.fft.fft(frequencies.columns.detach().double()).imag[..., :5]
    expected = 2 * torch.einsum("ta,ahp->htp", positions.double(), transform)
    torch.testing.assert_close(frequencies(positions).double(), expected, rtol=1e-5, atol=1e-5)


# --- all


@pytest.mark.parametrize("family", [Raster, Mixed, Video, Circulant])
@pytest.mark.parametrize("head_dim", [-2, 0, 5])
def test_head_dim_must_be_even(family, head_dim):
    with pytest.raises(ValueError, match=rf"head_dim {head_dim} cannot be split into pairs"):
        family(head_dim, 2)

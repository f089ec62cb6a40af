import math

import pytest
import torch

from harope.lab.analysis.receptive_fields import (
    encoding_kernel,
    kernel_maps,
    mean_by_offset,
    mean_distance,
    wave_vectors,
)
from harope.rope import RotaryEncoding, create_encoding, grid_positions, rotate
from harope.rope.basis import orthogonal_from_entries

SIZES = (3, 4)
ROTARY = ("rope", "axial", "mixed", "video", "string", "string-circulant", "harope")


def rotary(name: str, **options: object) -> RotaryEncoding:
    encoding = create_encoding(name, num_heads=2, head_dim=8, **options)
    assert isinstance(encoding, RotaryEncoding)
    return encoding.eval()


def vectors_of(encoding: RotaryEncoding) -> torch.Tensor:
    assert encoding.frequencies is not None
    return wave_vectors(encoding.angles, encoding.num_axes, SIZES)


def test_wave_vectors_of_axial_frequencies_are_its_spectra_block_by_block():
    vectors = vectors_of(rotary("axial"))[:, 0]
    assert torch.allclose(vectors[0], torch.tensor([1, 0.01, 0, 0]).double())
    assert torch.allclose(vectors[1], torch.tensor([0, 0, 1, 0.01]).double())


def test_the_kernel_of_axial_rope_is_the_mean_of_its_cosines():
    encoding = rotary("axial")
    kernel = encoding_kernel(None, 8, vectors_of(encoding), SIZES, "interleaved")
    assert kernel.shape == (1, 5, 7)
    for row, dy in enumerate(range(-2, 3)):
        for column, dx in enumerate(range(-3, 4)):
            waves = (dy, 0.01 * dy, dx, 0.01 * dx)
            closed = sum(math.cos(wave) for wave in waves) / 4
            assert kernel[0, row, column].item() == pytest.approx(closed, abs=1e-6)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize("name", ROTARY)
def test_maps_are_the_traces_of_the_rotated_projections(name, layout):
    options = {} if name == "string-circulant" else {"layout": layout}
    encoding = rotary(name, **options)
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(2, 8, 5, generator=generator).double() for _ in range(2))
    maps = kernel_maps(queries, keys, vectors_of(encoding), SIZES, encoding.layout)
    table = encoding.rotation_table(grid_positions(*SIZES).double())
    assert table is not None

    def rotated(parts: torch.Tensor) -> torch.Tensor:
        # (columns, heads, tokens, head_dim): every token has the same content.
        same = parts.permute(2, 0, 1)[:, :, None].expand(-1, -1, SIZES[0] * SIZES[1], -1)
        return rotate(same, *table, encoding.layout)

    scores = torch.einsum("chqd,chkd->hqk", rotated(queries), rotated(keys))
    assert torch.allclose(mean_by_offset(scores, SIZES), maps, atol=1e-5)
    # Not the mean alone: the score depends on the offset alone.
    assert torch.allclose(scores[:, 0, -1], maps[:, -1, -1], atol=1e-5)


def test_a_rotation_of_queries_and_keys_leaves_the_kernel_and_a_stretch_does_not():
    vectors = vectors_of(rotary("axial"))
    plain = encoding_kernel(None, 8, vectors, SIZES, "interleaved")
    turned = orthogonal_from_entries(torch.randn(1, 28), 8, "exp")
    same = encoding_kernel((turned, turned), 8, vectors, SIZES, "interleaved")
    assert torch.allclose(same, plain, atol=1e-5)
    # Twice the channels of y's fast pair: its cosine counts four times.
    stretch = torch.tensor([2.0, 2, 1, 1, 1, 1, 1, 1]).diag()[None]
    found = encoding_kernel((stretch, stretch), 8, vectors, SIZES, "interleaved")
    expected = plain + 3 / 4 * torch.arange(-2, 3)[:, None].cos()
    assert torch.allclose(found, expected.double(), atol=1e-5)


def test_inverse_pairing_keeps_the_score_at_offset_zero():
    matrix = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    pair = (matrix, torch.linalg.inv(matrix).mT)
    kernel = encoding_kernel(pair, 8, vectors_of(rotary("axial")), SIZES, "interleaved")
    assert torch.allclose(kernel[:, 2, 3], torch.ones(2).double())


def test_axes_before_the_image_stand_still():
    encoding = rotary("axial", axes_dim=(4, 2, 2), num_axes=3)
    vectors = vectors_of(encoding)
    assert vectors[0].abs().max() == 0
    kernel = encoding_kernel(None, 8, vectors, SIZES, "interleaved")
    assert kernel[0, 0, 0].item() == pytest.approx((2 + math.cos(2) + math.cos(3)) / 4, abs=1e-6)


def test_one_axis_is_a_row_of_tokens():
    encoding = rotary("axial", num_axes=1)
    kernel = encoding_kernel(None, 8, vectors_of(encoding), SIZES, "interleaved")
    expected = sum(math.cos(3 * 0.1**j) for j in range(4)) / 4
    assert torch.allclose(kernel[0, :, 0], torch.full((5,), expected).double(), atol=1e-6)


def test_attention_to_the_right_neighbour():
    attention = torch.zeros(1, 12, 12)
    for token in range(12):
        attention[0, token, token + 1 if token % 4 < 3 else token] = 1
    maps = mean_by_offset(attention, SIZES)
    assert maps[0, 2, 4] == 1
    # One column of four attends to itself.
    assert maps[0, 2, 3] == 0.25
    assert maps.sum() == 1.25
    assert mean_distance(attention, SIZES).item() == pytest.approx(0.75)


def test_uniform_attention_has_the_mean_distance_of_all_pairs():
    places = [(y, x) for y in range(3) for x in range(4)]
    expected = sum(math.dist(a, b) for a in places for b in places) / 144
    # Half of the attention goes elsewhere.
    uniform = torch.full((2, 12, 12), 0.5 / 12)
    assert mean_distance(uniform, SIZES).tolist() == pytest.approx([expected] * 2)

"""Axial and mixed rotary encodings, DINOv3's and MRoPE against timm's.

timm's tables repeat each angle for the two channels of its pair; positions of a (height, width)
grid are numbered row by row, as ours.
"""

import pytest
import torch
from timm.layers.pos_embed_sincos import (
    RotaryEmbeddingCat,
    RotaryEmbeddingDinoV3,
    RotaryEmbeddingMixed,
    RotaryEmbeddingMRope,
    apply_rot_embed_cat,
)

from harope.rope import create_encoding, grid_positions, rotate, rotation_table

HEIGHT, WIDTH, HEADS, DIM = 5, 7, 3, 16


def axial(theta: float, rotate_half: bool = False):
    """Ours and timm's; timm's `dim` is the channels of a head."""
    theirs = RotaryEmbeddingCat(DIM, temperature=theta, in_pixels=False, rotate_half=rotate_half)
    layout = "half" if rotate_half else "interleaved"
    ours = create_encoding("axial", num_heads=HEADS, head_dim=DIM, theta=theta, layout=layout)
    return ours, theirs.get_embed([HEIGHT, WIDTH])


def mixed(block: int):
    """Ours with the frequencies of one of timm's blocks, whose first axis is x."""
    theirs = RotaryEmbeddingMixed(HEADS * DIM, depth=2, num_heads=HEADS)
    ours = create_encoding("mixed", num_heads=HEADS, head_dim=DIM)
    with torch.no_grad():
        ours.frequencies.wave_vectors.copy_(theirs.freqs[:, block].flip(0))
    return ours, theirs.get_embed([HEIGHT, WIDTH])[block]


def unrepeated(table: torch.Tensor, rotate_half: bool = False) -> list[torch.Tensor]:
    """timm's (sin, cos) with one entry per pair."""
    sin, cos = table.chunk(2, dim=-1)
    return [x[..., : DIM // 2] if rotate_half else x[..., ::2] for x in (sin, cos)]


def assert_same_tables(ours, table: torch.Tensor, rotate_half: bool = False) -> None:
    cos, sin = ours.rotation_table(grid_positions(HEIGHT, WIDTH))
    expected = unrepeated(table, rotate_half)
    for one, other in zip((sin, cos), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


def assert_same_rotation(ours, table: torch.Tensor, rotate_half: bool = False) -> None:
    q, k = torch.randn(2, 2, HEADS, HEIGHT * WIDTH, DIM)
    for x, out in zip((q, k), ours(q, k, grid_positions(HEIGHT, WIDTH)), strict=True):
        expected = apply_rot_embed_cat(x, table, half=rotate_half)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rotate_half", [False, True])
@pytest.mark.parametrize("theta", [100.0, 10000.0])
def test_axial_tables_and_rotation_are_those_of_rotary_embedding_cat(theta, rotate_half):
    ours, table = axial(theta, rotate_half)
    assert_same_tables(ours, table, rotate_half)
    assert_same_rotation(ours, table, rotate_half)


def test_timm_counts_rows_first_unless_asked_for_xy():
    xy = RotaryEmbeddingCat(DIM, in_pixels=False, grid_indexing="xy").get_embed([HEIGHT, WIDTH])
    swapped = create_encoding("axial", num_heads=HEADS, head_dim=DIM)
    table = swapped.rotation_table(grid_positions(HEIGHT, WIDTH).flip(-1))
    for one, other in zip((table.sin, table.cos), unrepeated(xy), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("block", [0, 1])
def test_mixed_tables_and_rotation_are_those_of_rotary_embedding_mixed(block):
    torch.manual_seed(0)
    ours, table = mixed(block)
    assert_same_tables(ours, table)
    assert_same_rotation(ours, table)


def test_mixed_starts_from_the_same_family_of_frequencies():
    torch.manual_seed(0)
    theirs = RotaryEmbeddingMixed(HEADS * DIM, depth=1, num_heads=HEADS).freqs[:, 0]
    torch.manual_seed(0)
    ours = create_encoding("mixed", num_heads=HEADS, head_dim=DIM).frequencies.wave_vectors
    # The same draws of one angle per head, ours with y first.
    torch.testing.assert_close(ours.flip(0), theirs, rtol=0, atol=1e-6)


def test_timm_rotates_like_us():
    x, angles = torch.randn(2, HEADS, 4, DIM), torch.randn(4, DIM // 2)
    table = torch.cat([angles.sin(), angles.cos()], dim=-1).repeat_interleave(2, dim=-1)
    ours = rotate(x, *rotation_table(angles))
    torch.testing.assert_close(ours, apply_rot_embed_cat(x, table), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(14, 14), (16, 20)])
@pytest.mark.parametrize(("theirs", "ours"), [("separate", "axis"), ("max", "max"), ("min", "min")])
def test_dinov3(size, theirs, ours):
    table = RotaryEmbeddingDinoV3(DIM, normalize_coords=theirs).get_embed(list(size))
    encoding = create_encoding("dinov3", num_heads=HEADS, head_dim=DIM, normalize_by=ours)
    cos, sin = encoding.rotation_table(grid_positions(*size))
    for one, other in zip((sin, cos), unrepeated(table, rotate_half=True), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("sections", [(3, 3, 2), (6, 1, 1)])
def test_interleaved_mrope_of_an_image(sections):
    table = RotaryEmbeddingMRope(DIM, sections).get_embed([HEIGHT, WIDTH])
    shape = {"num_heads": HEADS, "head_dim": DIM}
    ours = create_encoding("mrope-interleaved", sections=sections, **shape)
    assert_same_tables(ours, table, rotate_half=True)

"""FLUX's rotary encoding and the sine-cosine embedding against diffusers."""

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb, get_2d_sincos_pos_embed
from diffusers.models.transformers.transformer_flux import FluxPosEmbed

from harope.rope import create_encoding, grid_positions, text_image_positions

AXES = (16, 56, 56)
HEADS, DIM = 2, sum(AXES)


@pytest.fixture
def positions() -> torch.Tensor:
    return text_image_positions(5, 6, 9)


@pytest.fixture
def ours():
    return create_encoding("axial", num_heads=HEADS, head_dim=DIM, num_axes=3, axes_dim=AXES)


@pytest.fixture
def theirs(positions):
    return FluxPosEmbed(theta=10000, axes_dim=list(AXES))(positions)


def test_positions_are_those_of_flux(positions):
    """Ids of text are zeros; those of an image are (0, row, column), row by row."""
    ids = torch.zeros(6, 9, 3)
    ids[..., 1] += torch.arange(6)[:, None]
    ids[..., 2] += torch.arange(9)
    assert torch.equal(positions, torch.cat([torch.zeros(5, 3), ids.reshape(-1, 3)]))


def test_tables_are_those_of_flux(ours, theirs, positions):
    for one, other in zip(ours.rotation_table(positions), theirs, strict=True):
        torch.testing.assert_close(one.repeat_interleave(2, dim=-1), other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_is_that_of_flux(ours, theirs, positions, dtype):
    q, k = torch.randn(2, 2, HEADS, len(positions), DIM).to(dtype)
    rounding = 1e-5 if dtype == torch.float32 else 2**-6
    for x, out in zip((q, k), ours(q, k, positions), strict=True):
        torch.testing.assert_close(out, apply_rotary_emb(x, theirs), rtol=rounding, atol=1e-5)


def test_text_is_not_rotated(ours, positions):
    q, k = torch.randn(2, 2, HEADS, len(positions), DIM)
    out, _ = ours(q, k, positions)
    assert torch.equal(out[:, :, :5], q[:, :, :5])


def test_layout_half_is_the_other_unbinding_of_diffusers(theirs, positions):
    half = create_encoding(
        "axial", num_heads=HEADS, head_dim=DIM, num_axes=3, axes_dim=AXES, layout="half"
    )
    cos, sin = (x[:, ::2].repeat(1, 2) for x in theirs)
    q, k = torch.randn(2, 2, HEADS, len(positions), DIM)
    for x, out in zip((q, k), half(q, k, positions), strict=True):
        expected = apply_rotary_emb(x, (cos, sin), use_real_unbind_dim=-2)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (16, 16), (3, 7)])
def test_ape_is_the_sine_cosine_embedding_of_diffusers(height, width):
    ours = create_encoding("ape", num_heads=4, head_dim=12).embed(grid_positions(height, width))
    # base_size stretches both sides of diffusers' grid to it: undo that.
    wide = torch.tensor([height, width])
    theirs = get_2d_sincos_pos_embed(48, (height, width), base_size=1)
    places = grid_positions(height, width) / wide
    stretched = create_encoding("ape", num_heads=4, head_dim=12).embed(places)
    torch.testing.assert_close(stretched.double(), theirs, rtol=0, atol=2e-6)
    if height == width:
        plain = get_2d_sincos_pos_embed(48, height, base_size=height)
        torch.testing.assert_close(ours.double(), plain, rtol=0, atol=2e-6)

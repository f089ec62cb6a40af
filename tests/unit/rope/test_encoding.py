"""The interface of an encoding."""

import math

import pytest
import torch

from harope.rope import create_encoding, grid_positions, list_encodings
from support.encoding import ABSOLUTE, ROTARY, make, queries

LEARNED_TABLES = (
    *("mixed", "mixed-orthogonal", "string", "string-circulant", "axial-learned"),
    *("comrope-ap", "comrope-ld", "liere"),
)


def test_harope_is_rotation_after_basis():
    encoding = make("harope", 2, 8).double()
    q, k = (x.double() for x in queries(encoding, 12))
    a_q, a_k = encoding.matrices()
    p = grid_positions(3, 4).double()
    spectrum = torch.tensor([1, 10000**-0.5], dtype=torch.float64)
    angles = torch.cat([p[:, :1] * spectrum, p[:, 1:] * spectrum], dim=-1)
    turns = torch.exp(1j * angles)
    for x, matrix, out in zip((q, k), (a_q, a_k), encoding(q, k, p), strict=True):
        mapped = torch.einsum("hij,bhtj->bhti", matrix, x)
        turned = torch.view_as_complex(mapped.unflatten(-1, (4, 2))) * turns
        expected = torch.view_as_real(turned).flatten(-2)
        # The spectrum is kept in float32.
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ROTARY)
def test_forward_is_matrices_then_rotation(name):
    encoding = make(name)
    q, k = queries(encoding, 12)
    table = encoding.rotation_table(grid_positions(3, 4))
    eye = torch.eye(encoding.head_dim)
    matrices = encoding.matrices() or (eye, eye)
    mapped = [x @ matrix.mT for x, matrix in zip((q, k), matrices, strict=True)]
    expected = encoding.rotate(*mapped, table)
    torch.testing.assert_close(encoding(q, k, grid_positions(3, 4)), expected)


@pytest.mark.parametrize("name", list_encodings())
def test_tables_are_shared_unless_frequencies_are_learned(name):
    assert make(name).shares_table == (name not in LEARNED_TABLES)


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_encodings_add_nothing_to_the_tokens(name):
    assert make(name).embed(grid_positions(2, 2)) is None


@pytest.mark.parametrize("name", ["none", *ABSOLUTE])
def test_encodings_without_frequencies_rotate_nothing(name):
    encoding = make(name)
    assert encoding.rotation_table(grid_positions(2, 2)) is None
    assert encoding.matrices() is None
    assert encoding.regularization() is None


@pytest.mark.parametrize("name", ABSOLUTE)
def test_absolute_embeddings_are_as_wide_as_the_tokens(name):
    assert make(name, 2, 12).embed(grid_positions(4, 4)).shape == (16, 24)


def test_none_adds_nothing():
    assert make("none").embed(grid_positions(2, 2)) is None


@pytest.mark.parametrize("name", list_encodings())
def test_regularization_exists_where_there_are_scales(name):
    penalty = make(name).regularization()
    if name in ("harope", "harope-v1"):
        assert penalty.item() > 0
    else:
        assert penalty is None


def test_layout_half_pairs_channels_across_the_middle():
    encoding = create_encoding("axial", num_heads=1, head_dim=4, num_axes=1, layout="half")
    q = torch.tensor([1.0, 0, 0, 0])[None, None, None]
    out, _ = encoding(q, q, torch.tensor([[math.pi / 2]]))
    torch.testing.assert_close(out.flatten(), torch.tensor([0.0, 0, 1, 0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 5, 12), (2, 2, 5, 8)])
@pytest.mark.parametrize("name", ["none", "ape", "axial", "harope"])
def test_queries_of_other_heads_or_channels_are_refused(name, shape):
    q = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"encoding has 2 of 12: pass \(batch, heads") as error:
        make(name, 2, 12)(q, q, torch.zeros(5, 2))
    assert f"q has {shape[1]} heads of {shape[3]} channels" in str(error.value)


@pytest.mark.usefixtures("annotations_unchecked")
@pytest.mark.parametrize("places", [1, 4, 6])
@pytest.mark.parametrize("name", ["axial", "mixed"])
def test_every_token_needs_a_position(name, places):
    q = torch.zeros(2, 2, 5, 12)
    message = rf"q has 5 tokens but there are {places} positions: pass one position per token"
    with pytest.raises(ValueError, match=message):
        make(name, 2, 12)(q, q, torch.zeros(places, 2))

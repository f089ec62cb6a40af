"""Absolute embeddings: sines and cosines, and learned tables."""

import pytest
import torch
from torch.nn import functional as F

from harope.rope import grid_positions
from harope.rope.absolute import Learned, SinCos


def test_sincos_holds_sine_then_cosine_of_x_then_of_y():
    w = torch.tensor([10000 ** (-j / 3) for j in range(3)], dtype=torch.float64)
    embedded = SinCos(12, 2)(torch.tensor([[2.0, 5.0]]))[0].double()
    expected = torch.cat([(5 * w).sin(), (5 * w).cos(), (2 * w).sin(), (2 * w).cos()])
    torch.testing.assert_close(embedded, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_sincos_tells_every_axis_apart(num_axes):
    embedding = SinCos(4 * num_axes, num_axes)
    places = grid_positions(*[3] * num_axes)
    distances = torch.cdist(embedding(places), embedding(places))
    assert (distances + torch.eye(len(places))).min() > 0.1


@pytest.mark.parametrize("sizes", [(5,), (1,), (3, 4), (1, 4), (2, 3, 4), (2, 1, 3)])
def test_learned_returns_its_table_at_the_grid_points(sizes):
    embedding = Learned(6, sizes)
    ours = embedding(grid_positions(*sizes))
    torch.testing.assert_close(ours, embedding.table, rtol=0, atol=1e-7)


def test_learned_is_linear_between_grid_points():
    embedding = Learned(6, (3, 4))
    table = embedding.table.detach().unflatten(0, (3, 4))
    ours = embedding(torch.tensor([[1.25, 2.5]]))[0]
    top = (table[1, 2] + table[1, 3]) / 2
    bottom = (table[2, 2] + table[2, 3]) / 2
    torch.testing.assert_close(ours, 0.75 * top + 0.25 * bottom, rtol=0, atol=1e-7)


def test_learned_in_one_axis_is_linear_between_grid_points():
    embedding = Learned(6, (4,))
    ours = embedding(torch.tensor([[1.75]]))[0]
    expected = 0.25 * embedding.table[1] + 0.75 * embedding.table[2]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-7)


def test_learned_keeps_the_value_of_the_border_outside():
    embedding = Learned(6, (3, 4))
    outside = embedding(torch.tensor([[-2.0, 1.0], [9.0, 9.0]]))
    torch.testing.assert_close(outside, embedding.table[[1, 11]], rtol=0, atol=1e-7)


def test_stretching_a_learned_grid_by_its_corners_is_bilinear_resizing():
    embedding = Learned(5, (3, 4))
    places = grid_positions(5, 7) / 2
    image = embedding.table.detach().T.unflatten(1, (3, 4))[None]
    resized = F.interpolate(image, size=(5, 7), mode="bilinear", align_corners=True)
    torch.testing.assert_close(embedding(places), resized[0].flatten(1).T, rtol=0, atol=1e-7)


@pytest.mark.parametrize("embedding", [SinCos(8, 2), Learned(8, (4, 4)).bfloat16()])
def test_embeddings_are_float32_under_autocast(embedding):
    plain = embedding(grid_positions(3, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = embedding(grid_positions(3, 3))
    assert ours.dtype == torch.float32
    assert torch.equal(ours, plain)


def test_gradients_reach_the_table():
    embedding = Learned(3, (2, 3)).double()
    positions = torch.rand(4, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda table: torch.func.functional_call(embedding, {"table": table}, (positions,)),
        (embedding.table,),
    )


def test_width_must_hold_sines_and_cosines_of_all_axes():
    with pytest.raises(ValueError, match=r"width 6 .* 2 axes: .* must be a multiple of 4"):
        SinCos(6, 2)


@pytest.mark.parametrize("sizes", [(), (2, 2, 2, 2)])
def test_learned_spans_one_to_three_axes(sizes):
    with pytest.raises(ValueError, match=r"spans 1 to 3 axes.*use sincos") as error:
        Learned(8, sizes)
    assert f"grid_sizes {sizes}" in str(error.value)

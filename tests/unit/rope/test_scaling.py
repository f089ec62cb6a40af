"""Reading other resolutions: positions or frequencies rescaled, axis by axis."""

import math

import pytest
import torch

from harope.rope import Scaling, create_encoding, grid_positions, set_scaling
from harope.rope.frequencies import spectrum
from support.encoding import make

DIM, THETA = 16, 10000.0
PLAIN = torch.tensor([THETA ** (-2 * j / DIM) for j in range(DIM // 2)], dtype=torch.float64)


def scaled(method: str, train: int, now: int) -> torch.Tensor:
    scaling = Scaling(method=method, train_sizes=(train,), sizes=(now,))
    return spectrum(DIM, THETA, scaling=scaling).double()


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=2e-7, atol=0)


def test_spectrum_is_geometric_in_theta():
    close(spectrum(DIM, THETA).double(), PLAIN)


def test_extrapolation_and_a_ratio_of_one_change_nothing():
    for method in ("extrapolate", "interpolate", "ntk", "yarn"):
        close(scaled(method, 16, 16), PLAIN)
    close(scaled("extrapolate", 16, 64), PLAIN)


def test_interpolation_divides_all_frequencies_by_the_ratio():
    close(scaled("interpolate", 16, 40), PLAIN / 2.5)


def test_ntk_keeps_the_highest_frequency_and_divides_the_lowest_by_the_ratio():
    ours = scaled("ntk", 16, 48)
    larger = THETA * 3 ** (DIM / (DIM - 2))
    close(ours, larger ** (-2 * torch.arange(DIM // 2, dtype=torch.float64) / DIM))
    close(ours[0], PLAIN[0])
    close(ours[-1], PLAIN[-1] / 3)


def test_yarn_keeps_pairs_of_over_32_turns_and_interpolates_those_of_under_one():
    train, ratio = 256, 4
    ours = scaled("yarn", train, train * ratio)
    for j, frequency in enumerate(PLAIN.tolist()):
        turns = train * frequency / (2 * math.pi)
        kept = min(max((turns - 1) / 31, 0), 1)
        close(ours[j], torch.tensor(kept * frequency + (1 - kept) * frequency / ratio).double())
    assert PLAIN[0] * train / (2 * math.pi) > 32
    close(ours[0], PLAIN[0])
    close(ours[-1], PLAIN[-1] / ratio)


def test_every_axis_has_its_own_ratio():
    encoding = create_encoding("axial", num_heads=1, head_dim=2 * DIM)
    encoding.frequencies.set_scaling(
        Scaling(method="interpolate", train_sizes=(8, 8), sizes=(16, 32))
    )
    angles = encoding.frequencies(torch.tensor([[3.0, 5.0]]))[0].double()
    close(angles, torch.cat([3 / 2 * PLAIN, 5 / 4 * PLAIN]))


@pytest.mark.parametrize("name", ["rope", "axial", "mixed", "video", "string", "string-circulant"])
def test_interpolation_equals_dividing_the_positions(name):
    encoding = make(name, 2, 12)
    plain = encoding.frequencies(grid_positions(3, 6) / torch.tensor([1.5, 2.0]))
    if name == "rope":
        # The one axis of the row-major index is longer by both ratios.
        plain = encoding.frequencies(grid_positions(3, 6)) / 3
    set_scaling(encoding, "interpolate", sizes=(3, 6), train_sizes=(2, 3))
    ours = encoding.frequencies(grid_positions(3, 6))
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["ntk", "yarn"])
def test_raster_scales_by_the_number_of_tokens(method):
    encoding = create_encoding("rope", num_heads=1, head_dim=DIM)
    set_scaling(encoding, method, sizes=(4, 12), train_sizes=(2, 6))
    ours = encoding.frequencies(grid_positions(4, 12))[1].double()
    close(ours, scaled(method, 12, 48))


@pytest.mark.parametrize(("method", "num_axes"), [("ntk", 2), ("ntk", 3), ("yarn", 2), ("yarn", 3)])
def test_video_scales_each_pair_by_the_ratio_of_its_axis(method, num_axes):
    encoding = create_encoding("video", num_heads=1, head_dim=DIM, num_axes=num_axes)
    train, now = (4, 8, 16)[-num_axes:], (8, 24, 20)[-num_axes:]
    set_scaling(encoding, method, sizes=now, train_sizes=train)
    owners = ["h", "w", "h", "w", "h", "w", "t", "t"]
    for axis, name in enumerate("thw"[-num_axes:]):
        place = torch.zeros(1, num_axes)
        place[0, axis] = 1
        owned = torch.tensor([owner == name for owner in owners])
        expected = scaled(method, train[axis], now[axis]) * owned
        close(encoding.frequencies(place)[0].double(), expected)


@pytest.mark.parametrize("method", ["interpolate", "ntk", "yarn"])
def test_fixed_absolute_embeddings_scale_too(method):
    encoding = create_encoding("ape", num_heads=1, head_dim=2 * DIM)
    set_scaling(encoding, method, sizes=(8, 12), train_sizes=(4, 4))
    embedded = encoding.embed(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).double()
    # x stands before y; sine before cosine.
    torch.testing.assert_close(embedded[1, : DIM // 2], scaled(method, 4, 12).sin())
    torch.testing.assert_close(embedded[0, DIM : 3 * DIM // 2], scaled(method, 4, 8).sin())


def test_a_learned_embedding_is_stretched_over_the_new_grid():
    encoding = make("ape-learned", 1, 8, grid_sizes=(4, 4))
    table = encoding.embed(grid_positions(4, 4))
    set_scaling(encoding, "interpolate", sizes=(8, 8), train_sizes=(4, 4))
    stretched = encoding.embed(2 * grid_positions(4, 4))
    torch.testing.assert_close(stretched, table, rtol=0, atol=1e-6)


def test_set_scaling_reaches_all_encodings_of_a_model():
    model = torch.nn.ModuleList(make("axial", 1, 8) for _ in range(3))
    set_scaling(model, "ntk", sizes=(8, 8), train_sizes=(4, 4))
    assert [layer.frequencies.scaling.ratios for layer in model] == [(2.0, 2.0)] * 3


def test_scaling_is_undone_by_none():
    encoding = make("axial", 1, 8)
    before = encoding.frequencies(grid_positions(3, 3))
    set_scaling(encoding, "ntk", sizes=(8, 8), train_sizes=(4, 4))
    assert not torch.equal(encoding.frequencies(grid_positions(3, 3)), before)
    set_scaling(encoding, None)
    assert torch.equal(encoding.frequencies(grid_positions(3, 3)), before)


@pytest.mark.parametrize("method", ["ntk", "yarn"])
@pytest.mark.parametrize("name", ["mixed", "string", "string-circulant", "ape-learned"])
def test_learned_frequencies_refuse_methods_that_rescale_a_spectrum(name, method):
    encoding = make(name, 1, 8)
    with pytest.raises(ValueError, match=rf"{method} scaling.*use interpolate or extrapolate"):
        set_scaling(encoding, method, sizes=(8, 8), train_sizes=(4, 4))


def test_ntk_refuses_an_axis_of_one_pair():
    encoding = create_encoding("axial", num_heads=1, head_dim=4)
    set_scaling(encoding, "ntk", sizes=(8, 8), train_sizes=(4, 4))
    with pytest.raises(ValueError, match=r"axis 0 has 2: use interpolate"):
        encoding.rotation_table(grid_positions(2, 2))


@pytest.mark.usefixtures("annotations_unchecked")
def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"'linear' is not one of extrapolate, interpolate"):
        Scaling(method="linear", train_sizes=(4,), sizes=(8,))


@pytest.mark.parametrize(("train", "now"), [((4,), (8, 8)), ((4, 0), (8, 8)), ((), ())])
def test_sizes_must_be_positive_and_name_the_same_axes(train, now):
    with pytest.raises(ValueError, match=r"must be positive and name the same axes") as error:
        Scaling(method="ntk", train_sizes=train, sizes=now)
    assert str(train) in str(error.value)
    assert str(now) in str(error.value)


def test_sizes_must_name_the_axes_of_the_encoding():
    with pytest.raises(ValueError, match=r"sizes \(8,\) name 1 axes but the encoding has 2"):
        set_scaling(make("axial"), "ntk", sizes=(8,), train_sizes=(4,))


@pytest.mark.parametrize("name", ["none", "harope"])
@pytest.mark.parametrize("method", ["ntk", None])
def test_where_nothing_can_be_scaled_an_error_says_so(name, method):
    options = {"frequencies": "host"} if name == "harope" else {}
    sizes = {} if method is None else {"sizes": (8, 8), "train_sizes": (4, 4)}
    with pytest.raises(ValueError, match=r"contains no frequencies or embeddings .* be scaled"):
        set_scaling(make(name, **options), method, **sizes)


def test_a_refused_scaling_changes_nothing():
    model = torch.nn.ModuleList([make("axial", 1, 8), make("mixed", 1, 8)])
    with pytest.raises(ValueError, match=r"ntk scaling rescales a fixed spectrum but Mixed"):
        set_scaling(model, "ntk", sizes=(8, 8), train_sizes=(4, 4))
    assert model[0].frequencies.scaling is None


def test_a_method_needs_sizes_and_none_takes_none():
    with pytest.raises(ValueError, match=r"ntk scaling needs sizes and train_sizes, got None"):
        set_scaling(make("axial"), "ntk", train_sizes=(4, 4))
    with pytest.raises(ValueError, match=r"method None restores the trained grid, but sizes"):
        set_scaling(make("axial"), None, sizes=(4, 4))

"""Matrices kept between calls: when they are, and what drops them."""

import copy
import io

import pytest
import torch
from torch import nn

from harope.rope import RotaryEncoding, grid_positions, set_scaling
from harope.rope._fast.cache import DerivedCache
from harope.rope.basis import Identity
from harope.rope.frequencies import Axial
from support.encoding import make, randomise


@pytest.fixture
def encoding() -> RotaryEncoding:
    return make("harope").eval()


@pytest.fixture
def calls(encoding, monkeypatch) -> list[int]:
    """One entry per computation of the matrices."""
    made, compute = [], encoding.basis.forward
    monkeypatch.setattr(encoding.basis, "forward", lambda *args: made.append(1) or compute(*args))
    return made


def assert_fresh(encoding: RotaryEncoding) -> None:
    """The kept matrices are those of the parameters."""
    with torch.no_grad():
        for kept, computed in zip(encoding.matrices(), encoding.basis(), strict=True):
            assert torch.equal(kept, computed)


def test_matrices_are_computed_once_without_gradient(encoding, calls):
    with torch.no_grad():
        first, second = encoding.matrices(), encoding.matrices()
    assert len(calls) == 1
    assert first[0] is second[0]


def test_matrices_are_computed_once_in_inference_mode(encoding, calls):
    with torch.inference_mode():
        encoding.matrices(), encoding.matrices()
    assert len(calls) == 1


def test_matrices_kept_by_inference_mode_serve_outside_of_it(encoding):
    with torch.inference_mode():
        encoding.matrices()
    assert_fresh(encoding)


def test_training_and_gradients_compute_anew(encoding, calls):
    encoding.matrices(), encoding.matrices()
    assert len(calls) == 2
    assert encoding.matrices()[0].requires_grad
    encoding.train()
    with torch.no_grad():
        encoding.matrices(), encoding.matrices()
    assert len(calls) == 5


def test_a_context_is_never_served_from_the_cache(encoding, calls):
    with torch.no_grad():
        encoding.matrices(torch.zeros(1)), encoding.matrices(torch.zeros(1))
    assert len(calls) == 2


def optimizer_step(encoding):
    optimizer = torch.optim.AdamW(encoding.parameters(), lr=0.1)
    encoding.zero_grad()
    with torch.enable_grad():
        sum(matrix.square().sum() for matrix in encoding.basis()).backward()
    optimizer.step()


def in_place_change(encoding):
    encoding.basis.raw_scale.mul_(1.5)


def new_weights(encoding):
    encoding.load_state_dict(make("harope", seed=1).state_dict())


def assigned_weights(encoding):
    encoding.load_state_dict(make("harope", seed=1).state_dict(), assign=True)


def another_dtype(encoding):
    encoding.to(torch.float64)


def write_to_data(encoding):
    encoding.basis.raw_scale.data.mul_(1.5)


def replaced_data(encoding):
    encoding.basis.raw_scale.data = torch.ones_like(encoding.basis.raw_scale)


def replaced_parameter(encoding):
    encoding.basis.raw_scale = nn.Parameter(torch.ones_like(encoding.basis.raw_scale))


@pytest.mark.parametrize(
    "change",
    [
        optimizer_step,
        in_place_change,
        new_weights,
        assigned_weights,
        another_dtype,
        write_to_data,
        replaced_data,
        replaced_parameter,
    ],
)
def test_matrices_follow_every_change_of_the_parameters(encoding, calls, change):
    with torch.no_grad():
        before = encoding.matrices()[0].clone()
        change(encoding)
        after = encoding.matrices()[0]
    assert not torch.equal(after, before.to(after.dtype)) or after.dtype != before.dtype
    assert_fresh(encoding)


def test_a_fixed_basis_is_computed_once(monkeypatch):
    encoding = make("string-circulant").eval()
    with torch.no_grad():
        kept = encoding.matrices()[0]
        randomise(encoding)
        assert encoding.matrices()[0] is kept


def test_deepcopy_has_a_cache_of_its_own(encoding):
    with torch.no_grad():
        encoding.matrices()
        twin = copy.deepcopy(encoding)
        randomise(twin)
    assert_fresh(twin)
    assert_fresh(encoding)


def test_saving_a_module_leaves_the_cache_behind(encoding):
    with torch.no_grad():
        encoding.matrices()
    assert set(encoding.state_dict()) == {
        "basis.skew_u",
        "basis.skew_v",
        "basis.raw_scale",
    }
    buffer = io.BytesIO()
    torch.save(encoding, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert again._kept_matrices._value is None
    assert_fresh(again)


def test_drop_forgets_the_value():
    cache, made = DerivedCache(), []
    parameter = nn.Parameter(torch.zeros(2))
    for _ in range(2):
        cache.get([parameter], lambda: made.append(1))
        cache.drop()
    assert len(made) == 2


def test_parameters_made_in_inference_mode_are_not_cached():
    with torch.inference_mode():
        parameter = nn.Parameter(torch.zeros(2))
    cache, made = DerivedCache(), []
    for _ in range(2):
        cache.get([parameter], lambda: made.append(1))
    assert len(made) == 2


def test_another_basis_or_family_is_seen_even_without_parameters():
    encoding = make("string-circulant").eval()
    positions = grid_positions(2, 2)
    with torch.no_grad():
        assert encoding.matrices() is not None
        encoding.basis = Identity()
        assert encoding.matrices() is None
        encoding = make("axial").eval()
        table = encoding.rotation_table(positions)
        assert encoding.rotation_table(positions) is table
        encoding.frequencies = Axial(encoding.head_dim, 2, theta=10.0)
        assert not torch.equal(encoding.rotation_table(positions).cos, table.cos)


def test_tables_follow_scaling_positions_and_learned_frequencies():
    encoding = make("mixed").eval()
    positions = grid_positions(3, 3)

    def fresh() -> torch.Tensor:
        return encoding.frequencies(positions).cos()

    with torch.no_grad():
        assert encoding.rotation_table(positions) is encoding.rotation_table(positions)
        for change in (
            lambda: encoding.frequencies.wave_vectors.mul_(1.5),
            lambda: positions.add_(1),
            lambda: set_scaling(encoding, "interpolate", sizes=(6, 6), train_sizes=(3, 3)),
        ):
            change()
            assert torch.equal(encoding.rotation_table(positions).cos, fresh())

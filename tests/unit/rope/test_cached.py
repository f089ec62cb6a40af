"""The `cached` scope: when values are reused, and when they must not be."""

import copy
import io
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from harope import DiT, cached
from harope.rope import RotaryEncoding, grid_positions, set_scaling
from harope.rope.basis import Identity
from harope.rope.frequencies import Axial
from support.encoding import make, randomise

TINY = {"depth": 2, "width": 16, "num_heads": 2, "patch_size": 2, "num_classes": 0}


@pytest.fixture
def encoding() -> RotaryEncoding:
    return make("harope").eval()


@pytest.fixture
def calls(encoding, monkeypatch) -> list[int]:
    """One entry per computation of the matrices."""
    made, compute = [], encoding.basis.forward
    monkeypatch.setattr(encoding.basis, "forward", lambda: made.append(1) or compute())
    return made


def assert_current(encoding: RotaryEncoding) -> None:
    """The encoding returns the matrices of its present parameters."""
    for returned, computed in zip(encoding.matrices(), encoding.basis(), strict=True):
        assert torch.equal(returned, computed)


def without_gradient(kind: str):
    return torch.no_grad() if kind == "no_grad" else torch.inference_mode()


# --- what a scope does


@pytest.mark.parametrize("kind", ["no_grad", "inference_mode"])
def test_matrices_are_computed_once_in_a_scope(encoding, calls, kind):
    with without_gradient(kind), cached(encoding):
        first, second = encoding.matrices(), encoding.matrices()
    assert len(calls) == 1
    assert first[0] is second[0]


def test_outside_a_scope_nothing_is_stored(encoding, calls):
    with torch.no_grad():
        encoding.matrices(), encoding.matrices()
        with cached(encoding):
            encoding.matrices()
        encoding.matrices()
    assert len(calls) == 4
    assert not encoding.in_scope
    assert "_scope_cache" not in vars(encoding)


@torch.no_grad()
def test_a_table_is_computed_once_per_positions_tensor():
    encoding = make("mixed").eval()
    small, large = grid_positions(2, 2), grid_positions(3, 3)
    with cached(encoding):
        tables = [encoding.rotation_table(positions) for positions in (small, large)]
        for positions, table in zip((small, large), tables, strict=True):
            assert encoding.rotation_table(positions) is table
            assert torch.equal(table.cos, encoding.frequencies(positions).cos())


@torch.no_grad()
def test_tables_are_dropped_together_with_their_positions(encoding):
    with cached(encoding):
        for _ in range(3):
            encoding.rotation_table(grid_positions(2, 2))
        assert len(encoding._scope_cache._entries_by_tensor) == 0


@torch.no_grad()
def test_every_encoding_of_a_model_is_cached():
    model = nn.ModuleList([make("harope").eval(), nn.Sequential(make("rethinking").eval())])
    with cached(model):
        for encoding in (model[0], model[1][0]):
            assert encoding.matrices()[0] is encoding.matrices()[0]


@torch.no_grad()
@pytest.mark.parametrize("name", ["harope", "mixed", "ape", "axial"])
def test_a_model_computes_the_same_in_a_scope(name):
    model = DiT(encoding=name, **TINY).eval()
    randomise(model)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([1.0, 900.0])
    expected = model(x, t)
    with cached(model):
        for _ in range(2):
            assert torch.equal(model(x, t), expected)
        # Other sizes have tables of their own.
        wide = torch.randn(2, 4, 4, 12)
        assert torch.equal(model(wide, t), copy.deepcopy(model)(wide, t))
        assert torch.equal(model(x, t), expected)


# --- nesting and exceptions


@torch.no_grad()
def test_an_inner_scope_leaves_the_values_to_the_outer_one(encoding, calls):
    model = nn.ModuleList([encoding])
    with cached(model):
        encoding.matrices()
        with cached(encoding):
            encoding.matrices()
        encoding.matrices()
    assert len(calls) == 1
    assert not encoding.in_scope


@torch.no_grad()
def test_an_exception_closes_the_scope(encoding):
    def fail():
        with cached(encoding):
            encoding.matrices()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not encoding.in_scope
    randomise(encoding)
    assert_current(encoding)


# --- when it has no effect


def test_training_and_gradients_compute_every_time(encoding, calls):
    with cached(encoding):
        encoding.matrices(), encoding.matrices()
        assert encoding.matrices()[0].requires_grad
        encoding.train()
        with torch.no_grad():
            encoding.matrices(), encoding.matrices()
    assert len(calls) == 5


def test_gradients_after_a_scope_in_inference_mode(encoding):
    positions, (q, k) = grid_positions(2, 2), torch.randn(2, 1, 2, 4, encoding.head_dim)
    with torch.inference_mode(), cached(encoding):
        encoding(q, k, positions)
    out = encoding(q, k, positions)[0]
    out.sum().backward()
    assert encoding.basis.raw_scale.grad is not None


def test_gradients_inside_a_scope_reach_the_parameters(encoding):
    with cached(encoding):
        with torch.no_grad():
            encoding.matrices()
        encoding.matrices()[0].sum().backward()
    assert encoding.basis.raw_scale.grad is not None


# --- changes of the weights


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


@torch.no_grad()
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
def test_matrices_follow_every_change_between_scopes(encoding, change):
    with cached(encoding):
        before = encoding.matrices()[0].clone()
    change(encoding)
    assert_current(encoding)
    with cached(encoding):
        after = encoding.matrices()[0]
        assert_current(encoding)
    assert not torch.equal(after, before.to(after.dtype)) or after.dtype != before.dtype


@torch.no_grad()
@pytest.mark.parametrize("change", [assigned_weights, another_dtype, replaced_parameter])
def test_replaced_parameters_are_noticed_inside_a_scope(encoding, change):
    with cached(encoding):
        encoding.matrices()
        change(encoding)
        assert_current(encoding)


@torch.no_grad()
def test_functional_call_inside_a_scope_uses_its_own_weights(encoding):
    weights = make("harope", seed=1).state_dict()
    q, k = torch.randn(2, 1, encoding.num_heads, 4, encoding.head_dim)
    inputs = (q, k, grid_positions(2, 2))
    expected = torch.func.functional_call(encoding, weights, inputs)
    with cached(encoding):
        encoding(*inputs)
        for ours, theirs in zip(
            torch.func.functional_call(encoding, weights, inputs), expected, strict=True
        ):
            assert torch.equal(ours, theirs)
        assert_current(encoding)


@torch.no_grad()
def test_another_basis_family_or_scaling_is_noticed_inside_a_scope():
    encoding, positions = make("string-circulant").eval(), grid_positions(2, 2)
    with cached(encoding):
        assert encoding.matrices() is not None
        encoding.basis = Identity()
        assert encoding.matrices() is None
    encoding = make("axial").eval()
    with cached(encoding):
        table = encoding.rotation_table(positions)
        set_scaling(encoding, "interpolate", sizes=(6, 6), train_sizes=(3, 3))
        scaled = encoding.rotation_table(positions)
        assert not torch.equal(scaled.cos, table.cos)
        encoding.frequencies = Axial(encoding.head_dim, 2, theta=10.0)
        assert not torch.equal(encoding.rotation_table(positions).cos, scaled.cos)


# --- copies and files


@torch.no_grad()
def test_a_deepcopy_is_outside_the_scope(encoding):
    with cached(encoding):
        encoding.matrices()
        twin = copy.deepcopy(encoding)
        assert not twin.in_scope
        randomise(twin)
        assert_current(twin)
        assert_current(encoding)


@torch.no_grad()
def test_files_do_not_contain_the_values(encoding):
    buffer = io.BytesIO()
    with cached(encoding):
        encoding.matrices()
        assert set(encoding.state_dict()) == {
            "basis.skew_u",
            "basis.skew_v",
            "basis.raw_scale",
        }
        torch.save(encoding, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert not again.in_scope
    assert_current(again)


# --- function transforms, fake tensors, compilers


@torch.no_grad()
def test_vmap_over_stacked_weights():
    encodings = [make("harope", seed=seed).eval() for seed in (0, 1, 2)]
    weights, _ = torch.func.stack_module_state(encodings)
    base = encodings[0]
    q, k = torch.randn(2, 1, base.num_heads, 4, base.head_dim)
    positions = grid_positions(2, 2)

    def call(weights):
        return torch.func.functional_call(base, weights, (q, k, positions))

    for scope in (cached(base), cached(nn.Module())):
        with scope:
            base.matrices()
            results = torch.vmap(call)(weights)
            assert_current(base)
        for index, encoding in enumerate(encodings):
            for ours, theirs in zip(results, encoding(q, k, positions), strict=True):
                torch.testing.assert_close(ours[index], theirs)


@torch.no_grad()
def test_fake_tensors_are_neither_served_nor_stored():
    encoding, positions = make("harope").eval(), grid_positions(2, 2)
    with cached(encoding):
        encoding.matrices(), encoding.rotation_table(positions)
        with FakeTensorMode(allow_non_fake_inputs=True):
            assert isinstance(encoding.matrices()[0], FakeTensor)
            assert isinstance(encoding.rotation_table(positions).cos, FakeTensor)
        assert not isinstance(encoding.matrices()[0], FakeTensor)
        assert not isinstance(encoding.rotation_table(positions).cos, FakeTensor)


@torch.no_grad()
def test_a_model_in_eval_mode_runs_on_fake_tensors():
    with FakeTensorMode():
        model = DiT(encoding="harope", **TINY).eval()
        with cached(model):
            out = model(torch.randn(2, 4, 8, 8), torch.zeros(2))
    assert out.shape == (2, 8, 8, 8)  # the noise and its variance


@torch.no_grad()
def test_an_export_inside_a_scope_follows_the_weights(encoding):
    inputs = (*torch.randn(2, 1, encoding.num_heads, 4, encoding.head_dim), grid_positions(2, 2))
    with cached(encoding):
        encoding(*inputs)
        program = torch.export.export(encoding, inputs)
        assert not any(name.startswith("_scope") for name in program.constants)
    weights = make("harope", seed=1).eval()
    moved = torch.func.functional_call(program.module(), weights.state_dict(), inputs)
    for ours, theirs in zip(moved, weights(*inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


COMPILED = """
import torch
from harope import cached, create_encoding

graphs = []


def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward


with torch.no_grad():
    encoding = create_encoding("harope", num_heads=2, head_dim=8).eval()
    compiled = torch.compile(lambda: encoding.matrices()[0], backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(), encoding.matrices()[0])
    with cached(encoding):
        encoding.matrices()
        compiled()
        encoding.basis.raw_scale.mul_(1.5)
        torch.testing.assert_close(compiled(), encoding.basis()[0])
assert len(graphs) == 1, len(graphs)
"""


def test_compiled_encodings_do_not_depend_on_a_scope():
    # In a process of its own: compilers do not trace the checks of annotations.
    subprocess.run([sys.executable, "-c", COMPILED], check=True)

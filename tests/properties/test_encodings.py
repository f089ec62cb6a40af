"""What every encoding promises, over shapes, dtypes, offsets, axes and combinations of parts."""

import copy
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harope.rope import (
    PositionalEncoding,
    RotaryEncoding,
    create_encoding,
    grid_positions,
    list_encodings,
)
from support.encoding import (
    ABSOLUTE,
    GENERATED,
    INVERTIBLE,
    ISOMETRIC,
    PAIRED,
    ROTARY,
    any_rotary,
    combinations,
    grids,
    make,
    norms,
    presets,
    queries,
    randomise,
    scores,
)

fast = settings(deadline=None, max_examples=30)
few = settings(deadline=None, max_examples=12)
DTYPES = [torch.float32, torch.bfloat16, torch.float64]
# A dot product adds up to 18 products here, each of rotated and mapped factors.
ROUNDINGS = 32


def score_tolerance(encoding: RotaryEncoding, positions: torch.Tensor, *qk: torch.Tensor) -> float:
    """Rounding of the values, and of the angles in proportion to their size."""
    table = encoding.rotation_table(positions)
    angle = encoding.angles(positions).abs().max().item()
    value_error, angle_error = torch.finfo(qk[0].dtype).eps, torch.finfo(table.cos.dtype).eps
    return ROUNDINGS * (value_error + angle * angle_error) * norms(*qk)


# --- relative positions


@fast
@given(any_rotary, grids(), st.tuples(*[st.integers(-99, 99)] * 3), st.sampled_from(DTYPES))
def test_scores_do_not_change_when_all_positions_move(maker, grid, offset, dtype):
    encoding = maker()
    positions = grid(encoding.num_axes)
    moved = positions + torch.tensor(offset[: encoding.num_axes])
    q, k = (x.to(dtype) for x in queries(encoding, len(positions)))
    if dtype == torch.float64:
        encoding, positions, moved = encoding.double(), positions.double(), moved.double()
    here, there = encoding(q, k, positions), encoding(q, k, moved)
    tolerance = score_tolerance(encoding, moved, *there) + score_tolerance(
        encoding, positions, *here
    )
    assert torch.allclose(scores(*here), scores(*there), rtol=0, atol=tolerance)


@fast
@given(presets(("none", *ABSOLUTE)), st.integers(0, 99))
def test_absolute_encodings_leave_queries_and_keys_alone(maker, start):
    encoding = maker()
    q, k = queries(encoding, 4)
    out_q, out_k = encoding(q, k, start + torch.rand(4, encoding.num_axes))
    assert torch.equal(out_q, q)
    assert torch.equal(out_k, k)


# --- the start of training


@fast
@given(
    grids(),
    st.integers(1, 3),
    st.integers(1, 6),
    st.sampled_from(["same", "inverse"]),
    st.sampled_from(["exp", "cayley"]),
)
def test_every_learned_basis_starts_as_axial(grid, num_axes, pairs, pairing, orthogonal_map):
    shape = {"num_heads": 2, "head_dim": 2 * num_axes * pairs, "num_axes": num_axes}
    axial = create_encoding("axial", **shape)
    positions = grid(num_axes)
    q, k = queries(axial, len(positions))
    others = [
        create_encoding(
            "harope",
            basis=basis,
            **({"pairing": pairing} if basis in PAIRED else {}),
            **({"orthogonal_map": orthogonal_map} if basis in GENERATED else {}),
            **({"block_size": 2} if basis == "block-orthogonal" else {}),
            **shape,
        )
        for basis in INVERTIBLE
    ]
    others += [create_encoding(name, **shape) for name in ("rethinking", "string")]
    expected = axial(q, k, positions)
    for other in others:
        torch.testing.assert_close(other(q, k, positions), expected, rtol=1e-6, atol=1e-6)


@fast
@given(grids(), st.integers(1, 3))
def test_harope_without_its_basis_is_axial_bit_for_bit(grid, num_axes):
    shape = {"num_heads": 2, "head_dim": 12 * num_axes, "num_axes": num_axes}
    axial = create_encoding("axial", **shape)
    bare = create_encoding("harope", basis="identity", **shape)
    positions = grid(num_axes)
    q, k = queries(axial, len(positions))
    for ours, expected in zip(bare(q, k, positions), axial(q, k, positions), strict=True):
        assert torch.equal(ours, expected)


# --- what the bases promise


@fast
@given(combinations(INVERTIBLE, pairing="inverse"), st.tuples(*[st.integers(-99, 99)] * 3))
def test_inverse_pairing_keeps_scores_at_zero_offset(maker, place):
    encoding = maker()
    place = torch.tensor([place[: encoding.num_axes]])
    q, k = queries(encoding, 1)
    out = encoding(q, k, place)
    tolerance = score_tolerance(encoding, place, *out)
    assert torch.allclose(scores(*out), scores(q, k), rtol=0, atol=tolerance)


@fast
@given(combinations(ISOMETRIC), grids())
def test_orthogonal_bases_keep_norms(maker, grid):
    encoding = maker()
    positions = grid(encoding.num_axes)
    q, k = queries(encoding, len(positions))
    for before, after in zip((q, k), encoding(q, k, positions), strict=True):
        torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1), rtol=4e-6, atol=0)


# --- tokens are a set


@fast
@given(any_rotary, grids())
def test_permuting_tokens_and_positions_permutes_the_output(maker, grid):
    encoding = maker()
    positions = grid(encoding.num_axes)
    q, k = queries(encoding, len(positions))
    order = torch.randperm(len(positions))
    out = encoding(q, k, positions)
    permuted = encoding(q[..., order, :], k[..., order, :], positions[order])
    for one, other in zip(out, permuted, strict=True):
        torch.testing.assert_close(one[..., order, :], other, rtol=1e-6, atol=2e-6)


@fast
@given(presets(ABSOLUTE), grids())
def test_permuting_positions_permutes_absolute_embeddings(maker, grid):
    encoding = maker()
    positions = grid(encoding.num_axes)
    order = torch.randperm(len(positions))
    assert torch.equal(encoding.embed(positions)[order], encoding.embed(positions[order]))


# --- dtypes


@fast
@given(
    any_rotary,
    grids(),
    st.sampled_from([*DTYPES, torch.float16]),
    st.sampled_from([*DTYPES, torch.float16]),
)
def test_output_has_the_dtype_of_q_and_tables_are_float32_or_better(
    maker, grid, dtype, parameter_dtype
):
    encoding = maker()
    encoding.to(parameter_dtype)
    positions = grid(encoding.num_axes)
    q, k = (x.to(dtype) for x in queries(encoding, len(positions)))
    for out in encoding(q, k, positions):
        assert out.dtype == dtype
        assert out.isfinite().all()
    wide = {torch.float32, torch.float64}
    assert {values.dtype for values in encoding.rotation_table(positions)} <= wide
    assert {matrix.dtype for matrix in encoding.matrices() or ()} <= wide


@fast
@given(any_rotary, grids())
def test_bfloat16_is_the_float32_result_rounded(maker, grid):
    encoding = maker()
    positions = grid(encoding.num_axes)
    q, k = (x.bfloat16() for x in queries(encoding, len(positions)))
    rounded = encoding(q, k, positions)
    exact = encoding(q.float(), k.float(), positions)
    for ours, expected in zip(rounded, exact, strict=True):
        # Two roundings to 8 bits, after the basis and after the rotation.
        tolerance = 2 * 2**-8 * expected.norm(dim=-1, keepdim=True)
        assert ((ours.float() - expected).abs() <= tolerance).all()


@pytest.mark.parametrize("place", [257, 1001, 4099])
def test_large_positions_are_exact_in_a_bfloat16_model(place):
    encoding = make("axial", 1, 8, num_axes=1).bfloat16()
    cos, sin = encoding.rotation_table(torch.tensor([[place]]))
    angles = torch.tensor([place * 10000 ** (-j / 4) for j in range(4)], dtype=torch.float64)
    torch.testing.assert_close(cos[0].double(), angles.cos(), rtol=0, atol=place * 2**-23)
    torch.testing.assert_close(sin[0].double(), angles.sin(), rtol=0, atol=place * 2**-23)


@pytest.mark.parametrize("name", ROTARY)
def test_integer_positions_equal_float_positions(name):
    encoding = make(name)
    q, k = queries(encoding, 12)
    positions = grid_positions(3, 4) + 300
    for one, other in zip(encoding(q, k, positions), encoding(q, k, positions.long()), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", list_encodings())
def test_positions_in_half_precision_are_refused(name):
    encoding = make(name)
    positions = grid_positions(2, 2).bfloat16()
    if name == "none":
        assert encoding.rotation_table(positions) is None
        return
    read = encoding.embed if name in ABSOLUTE else encoding.rotation_table
    with pytest.raises(ValueError, match=r"torch.bfloat16.*build them in float32"):
        read(positions)


@pytest.mark.parametrize("name", ROTARY)
def test_autocast_leaves_matrices_and_rotations_in_float32(name):
    encoding = make(name)
    positions = grid_positions(3, 4)
    q, k = queries(encoding, 12)
    expected = encoding(q, k, positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = encoding(q, k, positions)
    for ours, plain in zip(out, expected, strict=True):
        assert torch.equal(ours, plain)


# --- batches


@fast
@given(any_rotary, grids())
def test_batched_positions_equal_one_call_per_sample(maker, grid):
    encoding = maker()
    positions = grid(encoding.num_axes)
    # Samples on grids of other shapes and places, with as many tokens.
    batch = torch.stack(
        [positions, positions.flip(-1) + 7, positions[torch.randperm(len(positions))]]
    )
    q, k = queries(encoding, len(positions), batch=3)
    together = encoding(q, k, batch)
    for sample in range(3):
        alone = encoding(q[sample, None], k[sample, None], batch[sample])
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[sample, None], other, rtol=1e-6, atol=2e-6)


@fast
@given(presets(ABSOLUTE), grids())
def test_batched_positions_equal_one_embedding_per_sample(maker, grid):
    encoding = maker()
    positions = grid(encoding.num_axes)
    batch = torch.stack([positions, positions.flip(-1) / 2])
    together = encoding.embed(batch)
    for sample, embedded in zip(batch, together, strict=True):
        torch.testing.assert_close(embedded, encoding.embed(sample), rtol=1e-6, atol=1e-7)


# --- gradients


@fast
@given(any_rotary, grids())
def test_gradients_reach_all_parameters_and_are_finite(maker, grid):
    encoding = maker()
    assume(encoding.head_dim > 2)  # Circulant matrices of order 2 do not turn.
    positions = grid(encoding.num_axes) + 0.5
    positions = torch.cat([positions, positions + 1.25])
    q, k = (x.requires_grad_() for x in queries(encoding, len(positions)))
    out_q, out_k = encoding(q, k, positions)
    loss = torch.randn_like(out_q) * out_q + torch.randn_like(out_k) * out_k
    loss.sum().backward()
    for name, parameter in encoding.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@few
@given(any_rotary)
def test_gradients_equal_finite_differences(maker):
    encoding = maker().double()
    positions = torch.rand(2, encoding.num_axes, dtype=torch.float64)
    q, k = (x[:1].double().requires_grad_() for x in queries(encoding, 2))
    names = [name for name, _ in encoding.named_parameters()]

    def call(q, k, *values):
        arguments = dict(zip(names, values, strict=True))
        return torch.func.functional_call(encoding, arguments, (q, k, positions))

    assert torch.autograd.gradcheck(call, (q, k, *encoding.parameters()), fast_mode=True)


# --- life as a module


@pytest.mark.parametrize("name", list_encodings())
def test_state_dict_round_trip_and_deepcopy_give_the_same_function(name):
    encoding = make(name).eval()
    twin = make(name).eval()
    q, k = queries(encoding, 12)
    positions = grid_positions(3, 4)
    with torch.no_grad():
        encoding(q, k, positions), twin(q, k, positions)
        twin.load_state_dict(encoding.state_dict())
        expected = _everything(encoding, q, k, positions)
        for other in (twin, copy.deepcopy(encoding)):
            for one, value in zip(_everything(other, q, k, positions), expected, strict=True):
                assert torch.equal(one, value)


def test_a_deepcopy_does_not_follow_its_original():
    encoding = make("harope").eval()
    q, k = queries(encoding, 4)
    positions = grid_positions(2, 2)
    with torch.no_grad():
        before, _ = encoding(q, k, positions)
        twin = copy.deepcopy(encoding)
        randomise(encoding)
        assert torch.equal(twin(q, k, positions)[0], before)
        assert not torch.allclose(encoding(q, k, positions)[0], before)


COMPILED = """
    import torch
    from harope.rope import create_encoding, grid_positions

    def results(encoding, call, q, k):
        encoding.zero_grad()
        out = call(q, k, grid_positions(3, 4))
        (out[0] * out[1].detach().square() + out[1]).sum().backward()
        return [*out, *(parameter.grad for parameter in encoding.parameters())]

    for name, backend in {cases}:
        torch.compiler.reset()
        torch.manual_seed(0)
        q, k = torch.randn(2, 2, 2, 12, 16).requires_grad_()
        encoding = create_encoding(name, num_heads=2, head_dim=16)
        with torch.no_grad():
            for parameter in encoding.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        compiled = torch.compile(encoding, fullgraph=True, backend=backend)
        expected = results(encoding, encoding, q, k)
        torch.testing.assert_close(results(encoding, compiled, q, k), expected)
        with torch.no_grad():
            expected = encoding.eval()(q, k, grid_positions(3, 4))
            if backend == "aot_eager":
                torch.testing.assert_close(compiled(q, k, grid_positions(3, 4)), expected)
"""


def test_compiled_as_one_graph_equals_eager_in_values_and_gradients():
    # Every rotary encoding is captured; inductor, which is slow, makes code for one of them.
    cases = [(name, "aot_eager") for name in ROTARY] + [("harope", "inductor")]
    # In a process of its own: the checks of annotations that tests turn on cannot be compiled.
    code = textwrap.dedent(COMPILED).replace("{cases}", repr(cases))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _everything(encoding: PositionalEncoding, q, k, positions) -> list[torch.Tensor]:
    embedded = encoding.embed(positions)
    return [*encoding(q, k, positions), *([] if embedded is None else [embedded])]

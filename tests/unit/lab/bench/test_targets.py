"""Rows of the benchmark, on a model that takes no time."""

import pytest
import torch

from harope.lab.bench.rotation import KERNEL
from harope.lab.bench.sampling import count_repeated_operators
from harope.lab.bench.step import StepConfig, inputs, make_model, make_plain_model
from harope.lab.bench.targets import (
    TargetRow,
    forward_rows,
    memory_row,
    repeated_row,
    rotation_rows,
    step_rows,
)
from harope.lab.bench.timing import Spread, Timing
from harope.models.dit import DiT

TINY = StepConfig(size="DiT-S/8", batch=2, side=16)


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(1.0, True, True), (0.9, True, False), (1.0, False, True), (1.1, False, False)],
)
def test_a_target_is_met_from_its_side(value, at_least, met):
    assert TargetRow("work", Spread.of([value]), 1.0, at_least=at_least).met == met


def test_rotations_are_compared_with_the_fastest_peer_and_a_copy():
    times = {"copy": 1.0, "harope": 2.0, "slow": 9.0, "fast": 6.0}
    times |= {"harope, compiled": 1.5, "harope, half, compiled": 1.0}
    timings = {name: Timing((seconds,) * 3) for name, seconds in times.items()}
    rows = rotation_rows(timings, ["slow", "fast"])
    assert [(row.name, row.value.median, row.met) for row in rows] == [
        ("rotate: fast / harope", 3.0, True),
        ("rotate: fast / harope, compiled", 4.0, False),
        ("rotate: fast / harope, half, compiled", 6.0, True),
        ("rotate: harope, compiled / copy", 1.5, True),
        ("rotate: harope, half, compiled / copy", 1.0, True),
    ]


def test_naive_harope_starts_as_axial():
    # The benchmark's own HARoPE must compute the same function, or it would be another work.
    models = [make_model(name, TINY).eval() for name in ("naive", "axial", "harope")]
    with torch.no_grad():
        outs = [model(*inputs(TINY)) for model in models]
    torch.testing.assert_close(outs[0], outs[1], rtol=0, atol=1e-4)
    torch.testing.assert_close(outs[2], outs[1], rtol=0, atol=1e-5)


def test_the_plain_formulation_computes_the_same():
    plain = make_plain_model(TINY).eval()
    torch.nn.init.normal_(plain.final_layer.linear.weight)
    model = DiT(TINY.size, encoding="ape").eval()
    model.load_state_dict(plain.state_dict())
    with torch.no_grad():
        expected, out = model(*inputs(TINY)), plain(*inputs(TINY))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    assert expected.abs().max() > 0.1


def test_the_kernel_of_gpus_is_compared_with_a_copy():
    timings = {name: Timing((seconds,)) for name, seconds in (("copy", 1.0), (KERNEL, 1.1))}
    compiled = dict.fromkeys(("harope, compiled", "harope, half, compiled"), Timing((1.0,)))
    row = rotation_rows(timings | compiled, [])[-1]
    assert (row.name, row.met) == (f"rotate: {KERNEL} / copy", True)


def test_steps_and_forwards_give_their_ratios():
    rows, timings = step_rows(TINY, rounds=1)
    assert [row.target for row in rows] == [1.03, 1.06, 1.06, 1.15]
    names = ("harope", "axial", "none", "naive", "plain DiT")
    assert list(timings) == [f"step: {name}" for name in names]
    (row,), _ = forward_rows(TINY, rounds=1)
    assert row.value.median > 0


def test_memory_is_compared_in_the_second_step():
    assert 0.9 < memory_row(TINY).value.median < 1.5


def test_folded_harope_repeats_nothing_in_a_sampling_loop():
    assert repeated_row(TINY).value.median == 0
    assert count_repeated_operators("mixed", TINY) == 0


def test_work_that_is_repeated_is_seen():
    # Two exponentials a layer.
    assert count_repeated_operators("naive", TINY) >= 24

"""The machine code of the Triton kernels for GPUs that are not here.

Triton interprets kernels in tests, so they are compiled by processes of their own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.ahead_of_time import SHARED_MEMORY
from harope.rope._fast.triton.tiles import tiles_for

ROOT = Path(__file__).parents[3]
# Registers of a thread beyond which it gets a stack.
MOST_REGISTERS = 255
SECONDS = 10.0
"""Longest compilation that a user should wait for."""


def compile_for(architectures, **axes):
    """Return what the kernels of all combinations use."""
    options = ["--sm", *architectures]
    for name, values in axes.items():
        options += [f"--{name.replace('_', '-')}", *values]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))}
    command = [sys.executable, "benchmarks/gpu/ahead_of_time.py", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_lean(usage):
    assert usage["stack"] == 0, usage
    assert usage["registers"] <= MOST_REGISTERS, usage
    assert usage["shared"] <= SHARED_MEMORY[usage["architecture"]], usage
    assert usage["seconds"] < SECONDS, usage


def assert_wide(usage):
    assert usage["loads"].keys() == usage["stores"].keys() == {"128"}, usage


def test_the_rotation_moves_128_bits_at_a_time_without_a_stack():
    found = compile_for(
        [75, 80, 89, 90, 100, 120], kernels=["rotate", "table"], head_dims=[64, 72],
        memory=["packed"], layouts=["interleaved"],
    )  # fmt: skip
    found += compile_for(
        [90], kernels=["rotate"], head_dims=[48, 80, 88, 256], memory=["tokens", "heads"],
        layouts=["interleaved"],
    )  # fmt: skip
    assert len(found) == 32
    for usage in found:
        assert_lean(usage)
        assert_wide(usage)


@pytest.mark.parametrize(
    ("head_dim", "architectures"), [(64, [89]), (72, [90]), (128, [80, 89, 90, 100, 120])]
)
def test_qk_norm_runs_on_tensor_cores_without_a_stack(head_dim, architectures):
    found = compile_for(
        architectures, kernels=["normed", "normed_inputs", "normed_matrices"],
        head_dims=[head_dim], memory=["packed"], layouts=["interleaved"],
    )  # fmt: skip
    assert len(found) == 3 * len(architectures)
    for usage in found:
        assert_lean(usage)
        assert_wide(usage)
        assert usage["products"], usage
        limit = SHARED_MEMORY[usage["architecture"]]
        tiles = tiles_for(usage["architecture"], limit, head_dim, torch.bfloat16)
        assert usage["shared"] <= tiles.shared


def test_missing_kernels_are_named():
    found = compile_for([120], kernels=["normed"], head_dims=[256], memory=["packed"])
    assert all("sm_120" in usage["no kernel"] for usage in found)

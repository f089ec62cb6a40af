"""Grids, strides and inputs without tokens, by stand-ins that record launches."""

import pytest
import torch

from harope.rope._fast.triton import normed_qk, qk_norm_kernels, rotate, rotate_qk
from harope.rope._fast.triton.common import alignment, row_strides
from harope.rope._fast.triton.qk_norm_kernels import NormedInputs
from harope.rope._fast.triton.tiles import NoKernelError, Tile, tiles_for

# What the axes of a grid behind the first can count.
MOST = 65_535
KERNELS = {
    rotate: ("_rotation", "_table_gradient"),
    qk_norm_kernels: ("_normed", "_normed_input_gradient", "_normed_matrix_gradient"),
}


@pytest.fixture
def grids(monkeypatch):
    """Grids of all launches, none of which takes place."""
    found = []

    class Recorder:
        def __getitem__(self, grid):
            return lambda *args, **options: found.append(grid)

    for module, names in KERNELS.items():
        for name in names:
            monkeypatch.setattr(module, name, Recorder())
    return found


def launch_all(q, table):
    """Launch all kernels on tensors without memory."""
    tile, matrices = Tile(32, 4), 2 * [torch.empty(q.shape[1], 8, 8, device="meta")]
    inputs = NormedInputs.of(q, q, table, table, 1e-6, True)
    return [
        *rotate.launch_rotation(q, q, table, table, True, False),
        *rotate.launch_table_gradient(q, q, q, q, table, True),
        *qk_norm_kernels.launch_normed(inputs, *matrices, tile),
        *qk_norm_kernels.launch_input_gradient(inputs, q, q, *matrices, tile),
        qk_norm_kernels.launch_matrix_gradient(inputs, q, q, tile),
    ]


@pytest.mark.parametrize("table_batch", [1, 200_000])
def test_more_samples_than_a_grid_axis_counts(grids, table_batch):
    q = torch.empty(200_000, 3, 49, 8, device="meta")
    launch_all(q, torch.empty(table_batch, 1, 49, 4, device="meta"))
    assert len(grids) == 5
    assert all(later <= MOST for grid in grids for later in grid[1:])
    assert all(grid[0] < 2**31 for grid in grids)
    assert grids[0][0] >= 200_000


@pytest.mark.parametrize("shape", [(0, 3, 5, 8), (2, 3, 0, 8)])
def test_without_tokens_nothing_is_launched(grids, shape):
    q = torch.empty(shape)
    results = launch_all(q.to("meta"), torch.empty(1, 1, shape[2], 4, device="meta"))
    assert grids == []
    assert [part.shape for part in results[:2]] == 2 * [shape]
    assert results[2].shape == (1, 1, shape[2], 4)
    assert results[-1].shape == (6, 8, 8)


@pytest.mark.parametrize("shape", [(0, 3, 5, 8), (2, 3, 0, 8)])
def test_gradients_without_tokens_are_zero(shape):
    q = torch.empty(shape, requires_grad=True)
    table = [torch.empty(shape[2], 4, requires_grad=True) for _ in range(2)]
    matrices = [torch.ones(3, 8, 8, requires_grad=True) for _ in range(2)]
    fixed = [part.detach() for part in table]
    rotated, _ = rotate_qk(q, q, *table, interleaved=True)
    normed, _ = normed_qk(q, q, *matrices, *fixed, eps=1e-6, interleaved=True)
    assert rotated.shape == normed.shape == shape
    grads = torch.autograd.grad(rotated.sum() + normed.sum(), (q, *table, *matrices))
    assert all(not grad.any() for grad in grads)


@pytest.mark.parametrize(
    ("head_dim", "expected"), [(64, 16), (72, 8), (80, 16), (88, 8), (12, 4), (6, 2), (3, 1)]
)
def test_strides_are_multiples_of_a_power_of_two(head_dim, expected):
    q = torch.empty(2, 7, 3, 5, head_dim).permute(2, 0, 3, 1, 4)[0]
    assert alignment(q) == expected
    assert [step * expected for step in row_strides(expected, q)] == list(q.stride()[:3])


def test_strides_of_single_samples_and_shared_axes_do_not_count():
    assert alignment(torch.empty(1, 1, 5, 64).as_strided((1, 1, 5, 64), (7, 3, 64, 1))) == 16
    assert alignment(torch.empty(5, 16).expand(3, 2, 5, 16)) == 16


LIMITS = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}


@pytest.mark.parametrize("architecture", LIMITS)
def test_sizes_of_programs_respect_the_shared_memory_of_the_gpu(architecture):
    limit = LIMITS[architecture]
    for head_dim in (32, 64, 72, 80, 88, 96, 128):
        assert tiles_for(architecture, limit, head_dim, torch.bfloat16).shared <= limit
    with pytest.raises(NoKernelError, match="does not fit into a program"):
        tiles_for(architecture, limit, 256, torch.bfloat16)


def test_missing_kernels_are_explained():
    with pytest.raises(NoKernelError, match="needs 102400 bytes of shared memory, and sm_89 has"):
        tiles_for(89, LIMITS[89], 128, torch.float16)
    with pytest.raises(NoKernelError, match="sm_75 has no products of bfloat16"):
        tiles_for(75, 65_536, 64, torch.bfloat16)

import numpy as np
import pytest
import torch

from harope._utils.rng import isolated_numpy_rng, isolated_torch_rng


def test_torch_goes_on_as_if_nothing_had_been_drawn():
    before = torch.get_rng_state()
    with isolated_torch_rng():
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
    with isolated_torch_rng(seed=5):
        inside = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(inside, torch.rand(3, generator=torch.Generator().manual_seed(5)))


def test_numpy_goes_on_as_if_nothing_had_been_drawn():
    before = np.random.get_state()[1].copy()
    drawn = []
    for seed in ((3, 7), (3, 7), (3, 8)):
        with isolated_numpy_rng(seed):
            drawn.append(np.random.rand())
    with pytest.raises(KeyError), isolated_numpy_rng(1):
        raise KeyError
    assert np.array_equal(np.random.get_state()[1], before)
    assert drawn[0] == drawn[1] != drawn[2]

import torch

from harope.lab.training.task import generator_for


def test_generators_of_different_seeds_and_steps_differ():
    draws = {
        torch.rand(1, generator=generator_for(seed, step, torch.device("cpu"))).item()
        for seed in range(10)
        for step in range(10)
    }
    assert len(draws) == 100

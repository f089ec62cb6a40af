import torch

from harope.lab.training.task import step_generator


def test_generators_of_different_seeds_and_steps_differ():
    draws = {
        torch.rand(1, generator=step_generator(seed, step, torch.device("cpu"))).item()
        for seed in range(10)
        for step in range(10)
    }
    assert len(draws) == 100

"""Peak memory of tensors."""

import torch

from harope.lab.bench.memory import peak_bytes


def test_what_lives_at_the_same_time_is_added():
    def work() -> None:
        a = torch.ones(1000)
        b = a + 1
        del a
        c = b * 2
        c.sum()

    # Two vectors of 4,000 bytes at a time; in the end c, b and the sum.
    assert peak_bytes(work) == 8004


def test_views_and_what_was_there_before_are_free():
    x = torch.ones(1000)
    assert peak_bytes(lambda: x.view(10, 100).mT.add_(1)) == 0


def test_saved_activations_count_until_the_backward_pass():
    w = torch.ones(1000, requires_grad=True)

    def work() -> None:
        (w.exp().exp()).sum().backward()

    assert peak_bytes(work) >= 3 * 4000

import pytest
import torch
from torch import nn

from harope.lab.metrics.accuracy import top_k_accuracy
from harope.lab.metrics.intervals import Proportion


class Pixels(nn.Module):
    """Logits are the image's own values."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x.flatten(1)


def images(*rows):
    return torch.tensor(rows, dtype=torch.float32)[:, None, None]


def test_right_is_a_label_among_the_k_highest_over_all_batches():
    first = images([3, 2, 1, 0], [3, 2, 1, 0]), torch.tensor([0, 1])
    second = images([0, 1, 2, 3]), torch.tensor([0])
    scores = top_k_accuracy(Pixels(), [first, second], ks=(1, 2))
    assert scores == {1: Proportion(1, 3), 2: Proportion(2, 3)}


@pytest.mark.parametrize("classes", [2, 5])
def test_every_label_is_among_as_many_as_there_are_classes(classes):
    batch = torch.randn(4, 1, 1, classes), torch.arange(4) % classes
    assert top_k_accuracy(Pixels(), [batch])[5] == Proportion(4, 4)

import pytest
import torch
from torch import nn

from harope.lab.training.optim import EMA


def test_the_average_follows_the_recurrence_with_its_ramp():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    ema = EMA(model, decay=0.15)
    expected = 0.0
    for update, decay in enumerate((0.1, 0.15, 0.15)):
        nn.init.constant_(model.weight, float(update + 1))
        ema.update()
        expected = decay * expected + (1 - decay) * (update + 1)
    assert ema.average[0].item() == pytest.approx(expected)


def test_the_average_stays_float32_beside_a_half_model():
    model = nn.Linear(2, 2).bfloat16()
    ema = EMA(model, decay=0.9)
    ema.update()
    assert {average.dtype for average in ema.average} == {torch.float32}


def test_inside_swapped_the_model_holds_the_average_and_then_its_own_weights_again():
    model = nn.Linear(2, 2)
    ema = EMA(model, decay=0.9)
    start = model.weight.detach().clone()
    nn.init.constant_(model.weight, 5.0)
    with ema.swapped():
        assert torch.equal(model.weight, start)
    assert torch.equal(model.weight, torch.full((2, 2), 5.0))


def test_the_state_goes_round():
    model = nn.Linear(2, 2)
    ema, other = EMA(model, decay=0.9), EMA(model, decay=0.9)
    nn.init.constant_(model.weight, 5.0)
    ema.update()
    other.load_state_dict(ema.state_dict(), ema.updates)
    for one in (ema, other):
        one.update()
    assert all(map(torch.equal, ema.average, other.average))

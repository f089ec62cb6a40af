import pytest
import torch
from torch import nn

from harope.lab.training.optim import load_optimizer_tensors, optimizer_tensors


@pytest.mark.parametrize("fused", [True, False])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(fused):
    torch.manual_seed(0)
    model, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.1, fused=fused) for m in (model, twin)]

    def step(m, optimizer):
        optimizer.zero_grad()
        m(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    step(model, optimizers[0])
    twin.load_state_dict(model.state_dict())
    load_optimizer_tensors(optimizers[1], twin, optimizer_tensors(optimizers[0], model))
    step(model, optimizers[0])
    step(twin, optimizers[1])
    assert torch.equal(model.weight, twin.weight)

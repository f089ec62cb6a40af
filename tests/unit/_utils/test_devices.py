"""Copies from the host to a device."""

import pytest
import torch
from torch import Tensor

from harope._utils.devices import copy_to_device
from support.fake_cuda import DEVICE, Waits, fake_tensors


def test_on_the_cpu_nothing_is_copied():
    values = torch.arange(3)
    assert copy_to_device(values, torch.device("cpu")) is values


@pytest.mark.parametrize("pinned", [True, False])
def test_a_gpu_copies_from_pinned_memory_without_a_wait(pinned, monkeypatch):
    calls = []
    monkeypatch.setattr(Tensor, "is_pinned", lambda _: pinned)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: calls.append(1) or tensor)
    with fake_tensors(), Waits() as waits:
        assert copy_to_device(torch.ones(3), DEVICE).device == DEVICE
    assert not waits.found
    assert len(calls) == (not pinned)

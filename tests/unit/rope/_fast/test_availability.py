"""When the Triton kernels are used, and the warning if they cannot be."""

import importlib
import warnings

import pytest
import torch

from harope.rope._fast import availability
from harope.rope._fast.availability import has_kernels

CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def forget():
    availability._is_supported.cache_clear()
    yield
    availability._is_supported.cache_clear()


def pretend_card(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


def assert_warns_once(reason):
    with pytest.warns(RuntimeWarning, match=reason) as caught:
        answers = [has_kernels(CUDA) for _ in range(3)]
    assert not any(answers)
    assert len(caught) == 1
    assert "HAROPE_KERNELS=0" in str(caught[0].message)


def test_they_are_used_on_gpus_alone(monkeypatch):
    pretend_card(monkeypatch, (7, 5))
    assert has_kernels(CUDA)
    assert not has_kernels(torch.device("cpu"))
    assert not has_kernels(torch.device("mps"))


def test_an_environment_variable_turns_them_off_without_a_warning(monkeypatch):
    pretend_card(monkeypatch, (6, 1))
    monkeypatch.setenv("HAROPE_KERNELS", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not has_kernels(CUDA)


def test_other_values_of_the_variable_are_refused(monkeypatch):
    monkeypatch.setenv("HAROPE_KERNELS", "off")
    with pytest.raises(ValueError, match="HAROPE_KERNELS is 'off': set it to 0"):
        has_kernels(CUDA)


def test_an_old_card_is_named_once(monkeypatch):
    pretend_card(monkeypatch, (7, 0))
    assert_warns_once(r"cuda:0: its compute capability is 7.0, and they need 7.5")


def test_a_missing_triton_is_named_once(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError("No module named 'triton'")

    pretend_card(monkeypatch, (9, 0))
    monkeypatch.setattr(importlib, "import_module", fail)
    assert_warns_once(r"Triton cannot be imported \(ModuleNotFoundError: .*pip install triton")

"""Constants of encodings are made on the device of their inputs, not copied there from the host."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harope.rope import PositionalEncoding, create_encoding, list_encodings, set_scaling
from harope.rope.circulant import Fourier
from support.encoding import HEAD_DIMS

DEVICE = torch.device("meta")


class HostTensors(TorchDispatchMode):
    """Records operations that return tensors on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, torch.Tensor) and leaf.is_cpu for leaf in tree_leaves(out)):
            self.operations.append(str(func))
        return out


def host_operations(encoding: PositionalEncoding, method: str | None = None) -> list[str]:
    """Operations of one forward on another device that return tensors on the CPU."""
    encoding = encoding.to(DEVICE)
    if method is not None:
        set_scaling(encoding, method, train_sizes=(4, 4), sizes=(8, 8))
    q = k = torch.empty(1, 2, 6, encoding.head_dim, device=DEVICE)
    positions = torch.empty(6, 2, device=DEVICE)
    with torch.no_grad(), HostTensors() as host:
        encoding.embed(positions)
        encoding(q, k, positions)
    return host.operations


def make(name: str, **options: Any) -> PositionalEncoding:
    return create_encoding(name, num_heads=2, head_dim=HEAD_DIMS.get(name, 12), **options)


# Modules on the meta device have no device for the Fourier basis, see `Fourier`.
@pytest.mark.parametrize("name", sorted(set(list_encodings()) - {"string-circulant"}))
def test_no_tensor_is_made_on_the_host(name):
    assert (
        host_operations(make(name, **{"grid_sizes": (4, 4)} if name == "ape-learned" else {})) == []
    )


def test_circulant_frequencies_make_no_tensor_on_the_host():
    assert host_operations(make("string-circulant", basis="identity")) == []


def test_the_fourier_basis_is_made_where_its_module_is():
    with FakeTensorMode():
        basis = Fourier(12)
        basis._device_anchor = torch.empty(0, device="cuda")
        with HostTensors() as host:
            matrix, _ = basis()
    assert matrix.device.type == "cuda"
    assert host.operations == []


@pytest.mark.parametrize("method", ["interpolate", "ntk", "yarn"])
@pytest.mark.parametrize("name", ["rope", "axial", "video"])
def test_scaling_makes_no_tensor_on_the_host(name, method):
    assert host_operations(make(name), method) == []


@pytest.mark.parametrize("name", ["mixed", "axial-learned"])
def test_scaled_positions_of_learned_frequencies_stay_on_their_device(name):
    assert host_operations(make(name), "interpolate") == []

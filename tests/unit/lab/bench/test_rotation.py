"""Every peer computes the same rotation as ours, up to the order of channels."""

import subprocess
import sys

import pytest
import torch

from harope.lab.bench.rotation import (
    GPU_PEERS,
    PEERS,
    complex_rotations,
    eager_rotations,
    kernel_rotations,
    peer_rotations,
)

X = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
ANGLES = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
OURS = eager_rotations(X, ANGLES)


# x-transformers is scripted when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")


def test_all_peers_of_the_bench_extra_are_installed():
    assert list(peer_rotations(X, ANGLES)) == list(PEERS)


@pytest.mark.parametrize("peer", PEERS)
def test_peers_agree_with_ours(peer):
    out = peer_rotations(X, ANGLES)[peer]()
    layout = "harope, half" if peer == "transformers" else "harope"
    ours = out[0] if isinstance(out, tuple) else out
    torch.testing.assert_close(ours, OURS[layout](), rtol=0, atol=2e-6)


def test_kernels_need_a_gpu():
    assert kernel_rotations(X, ANGLES) == {}
    assert not set(GPU_PEERS) & set(peer_rotations(X, ANGLES))


def test_the_complex_form_agrees_with_ours():
    (out,) = [work() for work in complex_rotations(X, ANGLES).values()]
    torch.testing.assert_close(out.transpose(1, 2), OURS["harope"](), rtol=0, atol=2e-6)


COMPILED = """
import torch
from harope.lab.bench.rotation import compiled_rotations, eager_rotations

x, angles = torch.randn(2, 3, 5, 8), torch.randn(5, 4)
ours = eager_rotations(x, angles)
for name, work in compiled_rotations(x, angles).items():
    expected = ours[name.removesuffix(", compiled")]()
    torch.testing.assert_close(work(), expected, rtol=0, atol=2e-6)
"""


def test_compiled_forms_agree_with_the_eager_ones():
    # In a process of its own: the checks of annotations that tests turn on cannot be compiled.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

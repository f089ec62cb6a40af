"""The model under torch.compile: one graph, and few of them over changing grids.

In processes of their own: the checks of annotations that tests turn on cannot be compiled.
"""

import subprocess
import sys

import pytest

COMMON = """
import torch
from torch._dynamo.testing import CompileCounter
from harope import DiT, DiTConfig

def small(encoding):
    torch.manual_seed(0)
    size = DiTConfig(depth=2, width=32, num_heads=2, patch_size=2, num_classes=5)
    model = DiT(size, encoding=encoding)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model

def inputs(height, width):
    torch.manual_seed(1)
    return torch.randn(2, 4, height, width), 1000 * torch.rand(2), torch.arange(2)

kept = torch.zeros(2, dtype=torch.bool)
"""

GRAPHS = """
# More sides than a compiler that knows static shapes alone could serve with three graphs.
GRIDS = [(8, 8), (12, 8), (8, 20), (16, 24), (20, 12), (24, 28), (4, 32)]
for encoding in ("ape", "mixed", "harope"):
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(small(encoding), backend=counter, fullgraph=True)
    for grid in GRIDS:
        compiled(*inputs(*grid), drop_labels=kept)
    # One for the first grid, one for another height or width, one for any.
    assert counter.frame_count <= 3, (encoding, counter.frame_count)
"""

GRADIENTS = """
eager, grads = small("harope"), []
for run in (eager, torch.compile(eager, fullgraph=True, backend="aot_eager")):
    eager.zero_grad()
    run(*inputs(8, 12), drop_labels=kept).square().mean().backward()
    grads.append([parameter.grad.clone() for parameter in eager.parameters()])
for ours, expected in zip(*reversed(grads)):
    # Times of up to 1,000 radians: a rounding of the angle is 6e-5 of a turn's cosine.
    assert (ours - expected).norm() <= 1e-3 * expected.norm()
"""

REAL = """
seen = []

def backend(graph, example):
    values = [node.meta.get("example_value") for node in graph.graph.nodes]
    seen.extend(value.dtype for value in values if isinstance(value, torch.Tensor))
    return graph.forward

with torch.inference_mode():
    torch.compile(small("harope").eval(), backend=backend, fullgraph=True)(*inputs(8, 8))
assert seen
assert not any(dtype.is_complex for dtype in seen)
"""

ONE_GRAPH = """
import warnings
import harope
import timm

def check(name, run):
    torch._dynamo.reset()
    found = torch._dynamo.explain(run)()
    assert (found.graph_count, found.graph_break_count) == (1, 0), (name, found.break_reasons)

x, times, labels = inputs(8, 8)
for encoding in harope.list_encodings():
    options = {"grid_sizes": (4, 4)} if encoding == "ape-learned" else {}
    size = DiTConfig(depth=1, width=32, num_heads=2, patch_size=2, num_classes=5)
    model = DiT(size, encoding=encoding, encoding_options=options)
    check(encoding, lambda: model(x, times, labels, drop_labels=kept))
warnings.simplefilter("ignore")
vit = timm.create_model(
    "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2
)
harope.install(vit, "harope")
check("vit", lambda: vit(torch.randn(2, 3, 32, 32)))
"""

CODES = {"graphs": GRAPHS, "gradients": GRADIENTS, "real": REAL, "one_graph": ONE_GRAPH}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_compiled(code):
    """Few graphs over many grids; eager gradients; no complex numbers; one graph per encoding."""
    done = subprocess.run([sys.executable, "-c", COMMON + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""Encodings as exported programs: saved, loaded again, and converted to ONNX."""

import io

import pytest
import torch
from torch import nn

from harope.rope import PositionalEncoding, create_encoding, grid_positions, list_encodings
from support.encoding import randomise


def encoding_of(name: str) -> PositionalEncoding:
    options = {"grid_sizes": (2, 3)} if name == "ape-learned" else {}
    encoding = create_encoding(name, num_heads=2, head_dim=16, **options).eval()
    randomise(encoding)
    return encoding


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", list_encodings())
def test_a_saved_program_loads_and_computes_the_same(name, autocast):
    encoding = encoding_of(name)
    q, k = torch.randn(2, 1, 2, 6, 16)
    inputs = (q, k, grid_positions(2, 3))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        file = io.BytesIO()
        program = torch.export.export(encoding, inputs)
        torch.export.save(program, file)
        file.seek(0)
        loaded = torch.export.load(file).module()
        torch.testing.assert_close(loaded(*inputs), encoding(*inputs))


@pytest.mark.parametrize("name", list_encodings())
def test_a_program_has_no_region_for_autocast_that_is_not_enabled(name):
    q, k = torch.randn(2, 1, 2, 6, 16)
    program = torch.export.export(encoding_of(name), (q, k, grid_positions(2, 3)))
    assert not [node for node in program.graph.nodes if "autocast" in str(node.target)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_computes_the_same(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model: nn.Module = encoding_of("harope")
    q, k = torch.randn(2, 1, 2, 6, 16)
    inputs = (q, k, grid_positions(2, 3))
    torch.onnx.export(model, inputs, dynamo=True, verbose=False).save(tmp_path / "encoding.onnx")
    session = runtime.InferenceSession(tmp_path / "encoding.onnx")
    names = [entry.name for entry in session.get_inputs()]
    feed = dict(zip(names, (value.numpy() for value in inputs), strict=True))
    ours = [torch.from_numpy(value) for value in session.run(None, feed)]
    torch.testing.assert_close(ours, list(model(*inputs)), rtol=1e-4, atol=1e-5)

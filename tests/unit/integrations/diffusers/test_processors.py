"""Processors of diffusers' attentions: one launch for norm, matrix and rotation."""

import pytest
import torch
from torch import nn

import harope
from harope.integrations.diffusers import processors
from support.host import CASES, move_encodings

pytestmark = pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")


@pytest.mark.parametrize("options", [{"frequencies": "axial"}, {"layout": "half"}], ids=str)
@pytest.mark.parametrize("name", ["flux", "sd35"])
def test_the_fused_form_gives_the_same_outputs_and_gradients(name, options, monkeypatch):
    """On a GPU it is one launch; the function behind it stands for that here."""
    case, results, calls = CASES[name], [], []
    model = harope.install(case.make(), "harope", **options)
    move_encodings(model)
    fused = processors.normed_rotate_qk
    monkeypatch.setattr(
        processors, "normed_rotate_qk", lambda *a, **k: calls.append(1) or fused(*a, **k)
    )
    for takes in (False, True):
        monkeypatch.setattr(processors, "uses_triton", lambda q, takes=takes: takes)
        model.zero_grad()
        out = case.run(model)
        out.square().sum().backward()
        results.append([out, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for plain, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-5)
    assert calls


@pytest.mark.parametrize(
    ("norms", "fits"),
    [
        ((nn.RMSNorm(4, eps=1e-6), nn.RMSNorm(4, eps=1e-6)), True),
        ((nn.RMSNorm(4, eps=1e-6), nn.RMSNorm(4, eps=1e-5)), False),
        ((nn.RMSNorm(4), nn.RMSNorm(4)), False),
        ((nn.LayerNorm(4), nn.LayerNorm(4)), False),
        ((nn.RMSNorm(4, elementwise_affine=False), nn.RMSNorm(4)), False),
        ((None, None), False),
    ],
    ids=str,
)
def test_only_alike_rms_norms_with_weights_go_into_the_launch(norms, fits):
    assert (processors._rms_settings(norms) is not None) == fits

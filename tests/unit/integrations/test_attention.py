"""timm's packed projection with the matrices in its weights."""

import copy

import pytest
import torch
from torch import nn

import harope
from harope.integrations.attention import FoldedQKVForward, folds_basis
from support.host import eva, move_encodings, normal, vit

pytestmark = pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")


def installed(make=vit, **options):
    model = harope.install(make(**options), "harope")
    move_encodings(model)
    return model


def test_many_tokens_meet_the_weights_and_few_do_not():
    attention = installed().blocks[0].attn
    assert isinstance(attention.qkv.forward, FoldedQKVForward)
    assert folds_basis(attention, 32)
    assert not folds_basis(attention, 31)


@pytest.mark.parametrize("make", [vit, lambda: eva(attn_type="rope", qkv_fused=True)])
def test_both_ways_give_the_same_outputs_and_gradients(make, monkeypatch):
    model = installed(make)
    images, results = normal(2, 3, 32, 32), []
    for bound in (True, False):
        monkeypatch.setattr(
            "harope.integrations.attention.cheaper_on_weights", lambda *_, b=bound: b
        )
        model.zero_grad()
        out = model(images)
        out.square().sum().backward()
        results.append([out, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def test_a_norm_or_a_hook_in_between_keeps_it_to_the_tokens():
    assert "forward" not in vars(installed(qk_norm=True).blocks[0].attn.qkv)
    attention = installed().blocks[0].attn
    attention.qkv.register_forward_hook(lambda module, args, out: None)
    assert not folds_basis(attention, 1000)


def test_the_forward_comes_and_goes_with_the_encoding():
    model = installed()
    assert type(model.blocks[0].attn.qkv) is nn.Linear
    twin = copy.deepcopy(model)
    assert twin.blocks[0].attn.qkv.forward.linear is twin.blocks[0].attn.qkv
    assert twin.blocks[0].attn.qkv.forward.hook.attention is twin.blocks[0].attn
    harope.remove(model)
    assert "forward" not in vars(model.blocks[0].attn.qkv)

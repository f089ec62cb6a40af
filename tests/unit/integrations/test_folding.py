"""Folding installed encodings into their models."""

import copy

import pytest
import torch

import harope
from harope.integrations import NotFoldedWarning
from harope.integrations.base import get_install_state
from support.host import CASES, flux, move_encodings, own, run_images, run_own, sd3, vit

PLAIN = [name for name, case in CASES.items() if not case.norms and not name.startswith("own")]


def installed(name):
    model = harope.install(CASES[name].make(), "harope-v1", frequencies="host")
    move_encodings(model)
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", PLAIN)
def test_a_folded_model_is_the_plain_one_with_the_same_outputs(name):
    case = CASES[name]
    model = installed(name)
    before = case.run(model)
    assert harope.fold(model) is model
    torch.testing.assert_close(case.run(model), before, rtol=1e-4, atol=1e-5)
    plain = case.make()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(case.run(plain), case.run(model))
    assert get_install_state(model) is None
    for ours, stock in zip(model.modules(), plain.modules(), strict=True):
        assert type(ours) is type(stock)
        assert len(ours._forward_hooks) == len(stock._forward_hooks)
        if hasattr(stock, "processor"):
            assert type(ours.processor) is type(stock.processor)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")
@pytest.mark.parametrize("encoding", ["harope", "harope-v1"])
@pytest.mark.parametrize("name", ["vit", "sd3", "dit"])
def test_a_rotation_of_the_encoding_stays_without_matrices(name, encoding):
    case = CASES[name]
    model = harope.install(case.make(), encoding)
    move_encodings(model)
    before = case.run(model)
    harope.fold(model)
    torch.testing.assert_close(case.run(model), before, rtol=1e-4, atol=1e-5)
    assert not [key for key in model.state_dict() if "harope" in key]
    with pytest.raises(ValueError, match="was folded into the model's weights and cannot be"):
        harope.remove(model)


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit-qk-norm", "sd35", "flux"])
def test_behind_qk_norm_matrices_stay_and_that_is_said(name):
    model = installed(name)
    before = CASES[name].run(model)
    with pytest.warns(NotFoldedWarning, match=r"attentions stay .*QK-norm stands between"):
        harope.fold(model)
    assert torch.equal(CASES[name].run(model), before)
    harope.remove(model)


@torch.no_grad()
def test_our_dit_folds_with_an_installed_encoding():
    model, case = harope.install(own("axial")), CASES["own-axial"]
    move_encodings(model)
    before = case.run(model)
    harope.fold(model)
    torch.testing.assert_close(case.run(model), before, rtol=1e-4, atol=1e-5)
    assert model.config.encoding_parts.basis == "identity"
    with pytest.raises(ValueError, match="was folded"):
        harope.remove(model)


def test_half_precision_weights_are_rounded_once():
    model = harope.install(vit().to(torch.bfloat16), "harope-v1", frequencies="host")
    move_encodings(model)
    attention = model.blocks[0].attn
    wide = attention.qkv.weight.float().chunk(3)[0].unflatten(0, (2, 16))
    expected = (attention.harope.matrices()[0] @ wide).flatten(0, 1).to(torch.bfloat16)
    harope.fold(model)
    assert torch.equal(attention.qkv.weight.chunk(3)[0], expected)


def test_adapters_must_be_merged_first():
    from peft import LoraConfig

    model = harope.install(sd3(), "harope-v1", frequencies="host")
    model.add_adapter(LoraConfig(target_modules=["to_q"]))
    with pytest.raises(ValueError, match=r"transformer_blocks.0.attn.to_q is not a bare Linear"):
        harope.fold(model)


@pytest.mark.parametrize("make", [vit, flux])
def test_there_is_nothing_to_fold_in_a_plain_model(make):
    with pytest.raises(ValueError, match="holds no encoding of harope's: there is nothing to fo"):
        harope.fold(make())


@torch.no_grad()
def test_in_a_cached_scope_matrices_are_computed_once(monkeypatch):
    from harope.rope.basis import SVD

    model, calls = installed("vit"), []
    assemble = SVD.assemble
    monkeypatch.setattr(SVD, "assemble", lambda *args: calls.append(1) or assemble(*args))
    with harope.cached(model):
        for _ in range(3):
            run_images(model)
    assert len(calls) == 2  # one for each layer


@torch.no_grad()
def test_behind_the_qk_norm_of_a_dit_matrices_stay():
    size = harope.DiTConfig(depth=2, width=32, num_heads=2, patch_size=2, num_classes=10)
    model = harope.DiT(size, encoding="harope", qk_norm=True).eval()
    move_encodings(model)
    for parameter in model.parameters():
        parameter.add_(0.1)
    before, weights = run_own(model), copy.deepcopy(model.state_dict())
    with pytest.warns(NotFoldedWarning, match=r"2 attentions stay \(blocks.0.attn, ...\): QK-norm"):
        harope.fold(model)
    assert torch.equal(run_own(model), before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())

"""Folded models: plain rotary models with the same outputs."""

import copy

import pytest
import torch

import harope
from harope import DiT, DiTConfig, list_encodings
from support.encoding import randomise

SMALL = DiTConfig(depth=2, width=16, num_heads=2, patch_size=2, num_classes=5)
OPTIONS = {"ape-learned": {"grid_sizes": (4, 4)}, "spiral": {"num_directions": 2}}
"""Options for heads of 8 or 16 channels."""


def trained(encoding: str, **options) -> DiT:
    model = DiT(SMALL, encoding=encoding, encoding_options={**OPTIONS.get(encoding, {}), **options})
    randomise(model, 0.3)
    return model.eval()


def answer(model: DiT) -> torch.Tensor:
    torch.manual_seed(3)
    x, t = torch.randn(3, 4, 8, 6, dtype=torch.float64), 1000 * torch.rand(3).double()
    with torch.no_grad():
        return model(x, t, torch.arange(3))


@pytest.mark.parametrize("encoding", list_encodings())
def test_outputs_stay(encoding):
    model = trained(encoding).double()
    before = answer(model)
    assert harope.fold(model) is model
    torch.testing.assert_close(answer(model), before)


@pytest.mark.parametrize(
    "options", [{"pairing": "inverse"}, {"per_head": False}, {"basis": "free"}], ids=str
)
def test_outputs_stay_with_other_bases(options):
    model = trained("harope", **options).double()
    before = answer(model)
    torch.testing.assert_close(answer(harope.fold(model)), before)


def test_nothing_of_the_basis_is_left():
    model = harope.fold(trained("harope"))
    assert not any("basis" in name for name in model.state_dict())
    assert model.config.encoding_parts.basis == "identity"
    assert all(block.attn.harope.matrices() is None for block in model.blocks)


def test_a_folded_model_is_saved_and_loaded_as_the_plain_one(tmp_path):
    model = harope.fold(trained("harope"))
    model.save_pretrained(tmp_path / "folded")
    again = DiT.from_pretrained(tmp_path / "folded")
    assert torch.equal(answer(again.double()), answer(model.double()))


def test_plain_models_stay_as_they_are():
    model = trained("axial")
    before = copy.deepcopy(model.state_dict())
    config = harope.fold(model).config
    assert config == SMALL_AXIAL
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


SMALL_AXIAL = DiTConfig(
    depth=2, width=16, num_heads=2, patch_size=2, num_classes=5, encoding="axial"
)


def test_projections_with_hooks_are_refused_before_anything_is_folded():
    model = trained("harope")
    before = copy.deepcopy(model.state_dict())
    model.blocks[1].attn.qkv.register_forward_hook(lambda *args: None)
    with pytest.raises(ValueError, match=r"blocks\.1\.attn\.qkv is not a bare Linear"):
        harope.fold(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

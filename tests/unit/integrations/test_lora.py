"""LoRA beside an encoding (PEFT)."""

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

import harope
from harope.integrations import adapters_disabled, check_lora, load_adapters, save_adapters
from harope.integrations.lora import LORA_FILE
from support.host import CASES, move_encodings, sd3, vit

pytestmark = pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")


@pytest.fixture(params=["flux", "sd3", "sd35"])
def kind(request):
    return CASES[request.param]


def trained(kind):
    """A model with LoRA and an encoding away from their start, and its output before both."""
    model = kind.make()
    with torch.no_grad():
        plain = kind.run(model)
    harope.install(model, "harope-v1", frequencies="host")
    model.add_adapter(
        LoraConfig(
            r=2,
            lora_alpha=4,
            target_modules=["to_q", "to_k", "add_q_proj"],
            modules_to_save=["harope"],
            init_lora_weights=False,
        )
    )
    move_encodings(model)
    return model, plain


def test_peft_trains_the_encoding_next_to_lora(kind):
    model, _ = trained(kind)
    kind.run(model).square().mean().backward()
    named = dict(model.named_parameters())
    assert {name for name, p in named.items() if p.grad is not None} == {
        name for name, p in named.items() if p.requires_grad
    }
    assert any("harope.modules_to_save.default.basis.skew_u" in name for name in named)


@torch.no_grad()
def test_disabled_adapters_are_the_model_as_it_was(kind):
    model, plain = trained(kind)
    moved = kind.run(model)
    with adapters_disabled(model):
        assert torch.equal(kind.run(model), plain)
    assert torch.equal(kind.run(model), moved)
    assert not torch.allclose(moved, plain, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("installed", [True, False])
def test_two_files_bring_both_back(kind, installed, tmp_path):
    model, _ = trained(kind)
    assert save_adapters(model, tmp_path) == tmp_path
    other = kind.make()
    if installed:
        harope.install(other, "harope-v1", frequencies="host")
    load_adapters(other, tmp_path)
    torch.testing.assert_close(kind.run(other), kind.run(model))


def test_the_lora_file_holds_lora_alone(kind, tmp_path):
    save_adapters(trained(kind)[0], tmp_path)
    names = list(load_file(tmp_path / LORA_FILE))
    assert names
    assert all(name.startswith("transformer.") and "lora" in name for name in names)
    check_lora(tmp_path / LORA_FILE)


def test_lora_with_an_encoding_inside_is_refused_not_dropped(kind, tmp_path):
    model, _ = trained(kind)
    model.save_lora_adapter(tmp_path)
    with pytest.raises(ValueError, match=r"weights of an encoding .*would drop: write LoRA and"):
        load_adapters(kind.make(), tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"holds neither {LORA_FILE} nor harope.safetensors"):
        load_adapters(sd3(), tmp_path)


@torch.no_grad()
def test_lora_alone_is_read_without_an_encoding(kind, tmp_path):
    save_adapters(trained(kind)[0], tmp_path)
    (tmp_path / "harope.safetensors").unlink()
    model = kind.make()
    before = kind.run(model)
    load_adapters(model, tmp_path)
    assert not torch.allclose(kind.run(model), before, atol=1e-4)
    assert not [name for name in model.state_dict() if "harope" in name]


def test_a_missing_adapter_is_named(tmp_path):
    model = harope.install(sd3(), "harope")
    with pytest.raises(ValueError, match=r"no adapter 'default', only \[\]: call add_adapter"):
        save_adapters(model, tmp_path)


def test_models_without_lora_pipelines_are_named(tmp_path):
    model = harope.install(vit(), "harope")
    with pytest.raises(ValueError, match="VisionTransformer has no pipeline that loads LoRA"):
        save_adapters(model, tmp_path)


@torch.no_grad()
def test_what_lora_adds_meets_the_basis_too():
    """LoRA on timm's packed projection: A (W + B) x, as after merging."""
    from peft import get_peft_model

    model = harope.install(vit(), "harope-v1", frequencies="host")
    move_encodings(model)
    config = LoraConfig(target_modules=["qkv"], init_lora_weights=False)
    wrapped = get_peft_model(model, config)
    images = torch.randn(4, 3, 32, 32)  # tokens enough to meet the weights
    out = wrapped(images)
    merged = wrapped.merge_and_unload()
    torch.testing.assert_close(merged(images), out, rtol=1e-4, atol=1e-5)

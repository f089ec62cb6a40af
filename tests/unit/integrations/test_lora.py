"""LoRA beside an encoding (PEFT)."""

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

import harope
from harope.integrations import (
    adapters_disabled,
    check_lora,
    load_adapters,
    save_adapters,
    unload_adapters,
)
from harope.integrations.base import get_install_state
from harope.integrations.lora import LORA_FILE
from support.host import CASES, move_encodings, sd3, vit

pytestmark = [
    pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning"),
    # PEFT's word on every second adapter.
    pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute in the model"),
]


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


# --- several adapters: the encoding is always that of the active one

SKEWS = {"x": 0.1, "y": 0.3}


def lora(**options):
    targets = ["to_q", "to_k"]
    return LoraConfig(r=2, target_modules=targets, init_lora_weights=False, **options)


@torch.no_grad()
def add(model, name):
    """Add an adapter with an encoding of its own."""
    torch.manual_seed(ord(name))
    model.add_adapter(lora(modules_to_save=["harope"]), adapter_name=name)
    for key, parameter in model.named_parameters():
        if f"harope.modules_to_save.{name}." in key and "skew_u" in key:
            parameter.fill_(SKEWS[name])


def saved_skew(folder):
    tensors = load_file(folder / "harope.safetensors")
    return next(float(v.flatten()[0]) for k, v in tensors.items() if "skew_u" in k)


@pytest.fixture
def tuned(tmp_path):
    """Folders of two adapters, and the output of each."""
    case, outputs = CASES["flux"], {}
    for name in SKEWS:
        model = harope.install(case.make(), "harope-v1")
        add(model, name)
        save_adapters(model, tmp_path / name, adapter=name)
        with torch.no_grad():
            outputs[name] = case.run(model)
    assert not torch.allclose(outputs["x"], outputs["y"], atol=1e-3)
    return tmp_path, outputs


@torch.no_grad()
def outputs_of(model, active):
    model.set_adapters(active) if isinstance(active, list) else model.set_adapter(active)
    return CASES["flux"].run(model)


def both(tuned):
    model = CASES["flux"].make()
    for name in SKEWS:
        load_adapters(model, tuned[0] / name, adapter=name)
    return model


def test_of_two_loaded_folders_each_adapter_has_its_own_encoding(tuned, tmp_path):
    model = both(tuned)
    for name in ("x", "y", "x", ["y"], ["x"]):
        torch.testing.assert_close(outputs_of(model, name), tuned[1][name[0]])
    for name in SKEWS:
        save_adapters(model, tmp_path / "again", adapter=name)
        assert saved_skew(tmp_path / "again") == pytest.approx(SKEWS[name])


def test_of_two_trained_adapters_each_has_its_own_encoding(tmp_path):
    model, case = harope.install(CASES["flux"].make(), "harope-v1"), CASES["flux"]
    for name in SKEWS:
        add(model, name)
    for name in SKEWS:
        model.set_adapter(name)
        out = case.run(model)
        encodings = harope.get_encodings(model).values()
        assert all(torch.all(e.basis.skew_u == SKEWS[name]) for e in encodings)
        # Trained, as its LoRA is, and nothing of the other one.
        model.zero_grad()
        out.square().sum().backward()
        trained = {n for n, p in model.named_parameters() if p.grad is not None and "harope" in n}
        assert trained
        assert all(f"modules_to_save.{name}." in key for key in trained)
        save_adapters(model, tmp_path, adapter=name)
        assert saved_skew(tmp_path) == pytest.approx(SKEWS[name])


def test_two_active_adapters_with_encodings_are_refused(tuned):
    model = both(tuned)
    with pytest.raises(ValueError, match=r"\['x', 'y'\] each have an encoding, .* only have one"):
        outputs_of(model, ["x", "y"])
    torch.testing.assert_close(outputs_of(model, ["y"]), tuned[1]["y"])


@torch.no_grad()
def test_a_lora_without_an_encoding_shares_that_of_the_adapter_that_is_active_with_it(tuned):
    plain = CASES["flux"].run(CASES["flux"].make())
    model = load_adapters(CASES["flux"].make(), tuned[0] / "x", adapter="x")
    model.add_adapter(LoraConfig(r=2, target_modules=["to_v"]), adapter_name="style")
    # Only the new one is active, of zeros, so LoRA a and its encoding are off.
    torch.testing.assert_close(CASES["flux"].run(model), plain)
    for active in (["x"], ["x", "style"], ["style", "x"]):
        torch.testing.assert_close(outputs_of(model, active), tuned[1]["x"])
    torch.testing.assert_close(outputs_of(model, ["style"]), plain)


def test_an_adapter_without_an_encoding_is_not_saved_with_that_of_another(tuned, tmp_path):
    model = load_adapters(CASES["flux"].make(), tuned[0] / "x", adapter="x")
    model.add_adapter(lora(), adapter_name="style")
    with pytest.raises(ValueError, match=r"'style' has no encoding of its own, only \['x'\] have"):
        save_adapters(model, tmp_path / "style", adapter="style")
    assert not (tmp_path / "style").exists()


@torch.no_grad()
def test_adapters_may_share_an_encoding_that_peft_does_not_train(tmp_path):
    model = harope.install(CASES["flux"].make(), "harope-v1")
    move_encodings(model)
    skew = float(model.single_transformer_blocks[0].attn.harope.basis.skew_u.flatten()[0])
    for name in ("one", "two"):
        model.add_adapter(lora(), adapter_name=name)
        save_adapters(model, tmp_path / name, adapter=name)
        assert saved_skew(tmp_path / name) == pytest.approx(skew)


@torch.no_grad()
def test_disabled_adapters_of_diffusers_have_no_encoding(tuned):
    plain = CASES["flux"].run(CASES["flux"].make())
    model = load_adapters(CASES["flux"].make(), tuned[0] / "x", adapter="x")
    model.disable_lora()
    assert torch.equal(CASES["flux"].run(model), plain)
    model.enable_lora()
    torch.testing.assert_close(CASES["flux"].run(model), tuned[1]["x"])


@torch.no_grad()
def test_a_deleted_adapter_takes_its_encoding_along(tuned):
    plain = CASES["flux"].run(CASES["flux"].make())
    model = both(tuned)
    model.set_adapters("x")
    model.delete_adapters("y")
    torch.testing.assert_close(outputs_of(model, "x"), tuned[1]["x"])
    assert list(model.transformer_blocks[0].attn.harope.modules_to_save) == ["x"]
    model.delete_adapters("x")
    assert torch.equal(CASES["flux"].run(model), plain)


@torch.no_grad()
def test_unloaded_lora_layers_are_noticed_and_the_encodings_can_follow(tuned):
    case = CASES["flux"]
    plain, model = case.run(case.make()), both(tuned)
    model.unload_lora()
    with pytest.raises(ValueError, match=r"adapters \['x', 'y'\] were unloaded, but their encod"):
        case.run(model)
    assert unload_adapters(model) is model
    assert torch.equal(case.run(model), plain)
    assert all(p.requires_grad for n, p in model.named_parameters() if ".harope." in n)


@torch.no_grad()
def test_unload_adapters_removes_lora_and_encodings_at_once(tuned):
    case = CASES["flux"]
    model = both(tuned)
    unload_adapters(model)
    assert torch.equal(case.run(model), case.run(case.make()))
    assert not [name for name in model.state_dict() if "lora" in name or "modules_to" in name]


@torch.no_grad()
def test_the_encoding_of_a_fused_lora_can_be_kept(tuned, tmp_path):
    case = CASES["flux"]
    model = load_adapters(case.make(), tuned[0] / "y", adapter="y")
    model.fuse_lora()
    model.unload_lora()
    with pytest.raises(ValueError, match="adapter 'x' has no encoding to keep"):
        unload_adapters(model, keep="x")
    unload_adapters(model, keep="y")
    torch.testing.assert_close(case.run(model), tuned[1]["y"], rtol=1e-4, atol=1e-5)
    harope.save_encoding(model, tmp_path / "kept")
    assert saved_skew(tmp_path / "kept") == pytest.approx(SKEWS["y"])


def test_a_name_that_is_taken_is_refused(tuned):
    model = both(tuned)
    with pytest.raises(ValueError, match="has an adapter 'x' already: pass another name"):
        load_adapters(model, tuned[0] / "y", adapter="x")
    torch.testing.assert_close(outputs_of(model, "x"), tuned[1]["x"])


@pytest.mark.parametrize("loaded", [True, False])
def test_an_encoding_that_does_not_fit_leaves_the_model_as_it_was(tuned, loaded, tmp_path):
    case = CASES["flux"]
    model, other = case.make(), harope.install(case.make(), "harope", theta=50.0)
    add(other, "y")
    save_adapters(other, tmp_path / "other", adapter="y")
    if loaded:
        load_adapters(model, tuned[0] / "x", adapter="x")
    else:
        harope.install(model, "harope-v1")
    with torch.no_grad():
        before = case.run(model)
    with pytest.raises(ValueError, match="but the installed one has"):
        load_adapters(model, tmp_path / "other", adapter="y")
    with torch.no_grad():
        assert torch.equal(case.run(model), before)
    assert list(getattr(model, "peft_config", {})) == ["x"] * loaded


def test_peft_switches_encodings_of_timm_itself():
    from peft import get_peft_model

    images = torch.randn(1, 3, 32, 32)
    config = {"target_modules": ["qkv"], "modules_to_save": ["harope"]}
    wrapped = get_peft_model(harope.install(vit(), "harope-v1"), LoraConfig(**config), "x")
    wrapped.add_adapter("y", LoraConfig(**config))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if ".harope.modules_to_save." in name and "skew_u" in name:
                parameter.fill_(SKEWS["x" if ".x." in name else "y"])
        results = {}
        for name in ("x", "y", "x"):
            wrapped.set_adapter(name)
            out = wrapped(images)
            assert torch.equal(results.setdefault(name, out), out)
        assert not torch.allclose(results["x"], results["y"], atol=1e-4)
        with wrapped.disable_adapter():
            assert torch.equal(wrapped(images), harope.install(vit(), "harope-v1")(images))
        assert torch.equal(wrapped(images), results["x"])


def test_an_absolute_encoding_follows_the_adapter_too():
    case = CASES["sd3"]
    model = harope.install(case.make(), "ape-learned", grid_sizes=(4, 6))
    for name in SKEWS:
        model.add_adapter(lora(modules_to_save=["harope"]), adapter_name=name)
        table = model.pos_embed.harope.modules_to_save[name].embedding.table
        with torch.no_grad():
            table.fill_(SKEWS[name])
    state = get_install_state(model)
    for name in SKEWS:
        model.set_adapter(name)
        case.run(model)
        assert torch.all(model.pos_embed.harope.unwrapped.embedding.table == SKEWS[name])
    assert state.adds_embedding

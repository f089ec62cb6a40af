"""Installed models under the tools of other libraries: right, or refused with a reason."""

import copy

import pytest
import timm
import torch
from timm.optim import param_groups_weight_decay
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, stack_module_state, vmap

import harope
from support.host import CASES, eva, move_encodings, normal, vit

pytestmark = pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")


def installed(make=vit, name="harope", **options):
    model = harope.install(make(), name, **options)
    move_encodings(model)
    return model


# --- features, exporters


def test_torch_fx_is_refused_with_another_way_to_get_features():
    from torchvision.models.feature_extraction import create_feature_extractor

    with pytest.raises(ValueError, match=r"torch.fx cannot trace .* forward_intermediates"):
        create_feature_extractor(installed(), ["blocks.1"])
    with pytest.raises(ValueError, match=r"torch.fx cannot trace"):
        create_feature_extractor(installed(name="harope-v1", frequencies="host"), ["blocks.1"])


@torch.no_grad()
@pytest.mark.parametrize("make", [lambda: vit(dynamic_img_size=True), eva])
def test_intermediate_features_are_those_of_the_whole_forward(make):
    model, seen = installed(make), []
    images = normal(2, 3, 32, 32)
    handle = model.blocks[0].register_forward_hook(lambda module, args, out: seen.append(out))
    out = model(images)
    handle.remove()
    for _ in range(2):
        final, features = model.forward_intermediates(images, norm=False, output_fmt="NLC")
        assert torch.equal(features[0], seen[0][:, model.num_prefix_tokens :])
        assert torch.equal(model.forward_head(final), out)


@torch.no_grad()
def test_features_only_models_of_timm_take_an_encoding():
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    options |= {"features_only": True, "out_indices": (0, 1)}
    features = timm.create_model("vit_tiny_patch16_224", **options).eval()
    images = normal(2, 3, 32, 32)
    before = features(images)
    harope.install(features.model, "harope")
    assert not torch.allclose(features(images)[-1], before[-1], atol=1e-4)


@pytest.mark.parametrize("name", ["vit", "sd3", "flux"])
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_torchscript_is_refused(name):
    model = CASES[name].make()
    harope.install(model, "harope")
    with pytest.raises(ValueError, match=r"TorchScript cannot compile .* use torch.export"):
        torch.jit.script(model)
    harope.remove(model)
    assert not hasattr(model, "__prepare_scriptable__")


@torch.no_grad()
def test_torch_export_gives_the_same_output():
    model, images = installed(), normal(2, 3, 32, 32)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))


# --- files of other libraries


@pytest.mark.parametrize("name", ["sd3", "flux", "dit"])
def test_save_pretrained_is_refused_as_reading_it_would_drop_the_encoding(name, tmp_path):
    case = CASES[name]
    model = case.make()
    harope.install(model, "harope")
    move_encodings(model)
    with torch.no_grad():
        expected = case.run(model)
    with pytest.raises(ValueError, match=r"from_pretrained would drop the encoding.*save_encoding"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    # What the message says works.
    harope.save_encoding(model, tmp_path)
    harope.remove(model).save_pretrained(tmp_path)
    again = harope.load_encoding(type(model).from_pretrained(tmp_path), tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(case.run(again), expected)


def test_the_weight_decay_of_timm_spares_a_learned_table():
    model = installed(name="ape-learned", grid_sizes=(4, 4), keep_absolute=False)
    (table,) = [name for name, _ in model.named_parameters() if "harope" in name]
    exempt = model.no_weight_decay()
    groups = param_groups_weight_decay(model, 0.1, no_weight_decay_list=exempt)
    parameter = model.get_parameter(table)
    (decay,) = [g["weight_decay"] for g in groups if any(p is parameter for p in g["params"])]
    assert table in exempt
    assert decay == 0


def test_the_checkpoint_filter_of_eva_drops_encodings_and_strict_loading_says_so():
    from timm.models.eva import checkpoint_filter_fn

    model = installed(eva)
    state = checkpoint_filter_fn(model.state_dict(), model)
    assert not [name for name in state if "harope" in name]
    with pytest.raises(RuntimeError, match=r"Missing key.*blocks.0.attn.harope.basis"):
        model.load_state_dict(state)


# --- function transforms


@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet")
@pytest.mark.parametrize("grad", [True, False])
def test_an_ensemble_by_vmap_gives_the_outputs_of_its_models(grad):
    first = installed()
    second = copy.deepcopy(first)
    move_encodings(second, 0.5)
    images = normal(2, 3, 32, 32)
    stacked = stack_module_state([first, second])
    with torch.set_grad_enabled(grad):
        run = vmap(lambda p, b: functional_call(first, (p, b), (images,)), randomness="same")
        both = run(*stacked)
        for out, model in zip(both, (first, second), strict=True):
            torch.testing.assert_close(out, model(images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_fake_tensors_have_the_shape_of_the_output():
    model, images = installed(), normal(2, 3, 32, 32)
    out = model(images)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert model(images).shape == out.shape
    assert torch.equal(model(images), out)

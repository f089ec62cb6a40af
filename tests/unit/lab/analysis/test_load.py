import re
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import harope
from harope.integrations import ModelChangedWarning, install, save_encoding
from harope.lab.analysis.inspection import inspect_model
from harope.lab.analysis.load import load_inspected_model
from harope.lab.analysis.page import write_heads
from harope.lab.analysis.tables import cost_rows
from harope.lab.recipes import get_recipe
from harope.lab.training import train
from harope.models.checkpoint_files import list_checkpoints
from support.host import CASES, move_encodings
from support.mmdit import scenes_config


def still(config, **model):
    """Two steps at a rate so small that no weight moves."""
    optimizer = replace(config.optimizer, lr=1e-30, weight_decay=0.0, warmup_steps=0)
    return replace(config, optimizer=optimizer, model=replace(config.model, **model))


@pytest.fixture(scope="module")
def mmdit(tmp_path_factory):
    """A run whose last block ends the text."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(still(scenes_config(), encoding="mixed"), folder, quiet=True)
    return folder


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_path_that_is_no_run_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"{name}.*(does not exist|holds no checkpoint)"):
        load_inspected_model(tmp_path / name)


def test_an_mmdit_is_compared_with_the_weights_that_its_training_drew(mmdit):
    inspected = load_inspected_model(mmdit)
    initial = inspected.initial_model()
    assert initial is not None
    then = initial.model.state_dict()
    for name, value in inspected.model.state_dict().items():
        assert torch.allclose(value, then[name], rtol=0, atol=1e-25), name
    found = inspect_model(inspected, num_images=2)
    assert list(found.change) == ["queries", "keys", "values", "output"]
    assert max(max(column) for column in found.change.values()) < 1e-12
    assert torch.allclose(found.scores, found.initial_scores, rtol=0, atol=1e-12)


def test_attention_of_an_mmdit_is_that_among_the_tokens_of_its_image(mmdit, tmp_path):
    inspected = load_inspected_model(mmdit)
    with torch.no_grad():
        for name, parameter in inspected.model.named_parameters():
            if ".to_q." in name or ".add_q_proj." in name:
                parameter.zero_()
    found = inspect_model(inspected, num_images=2)
    assert list(found.attention) == ["noise 0.1", "noise 0.5", "noise 0.9"]
    image, text = found.costs.tokens, found.costs.text
    measured = found.attention["noise 0.5"]
    # Without queries all keys are alike, those of the text too.
    share = torch.full_like(measured.elsewhere, text / (image + text))
    assert torch.allclose(measured.elsewhere, share)
    assert torch.allclose(measured.maps, torch.full_like(measured.maps, 1 - share[0, 0]))
    assert write_heads(found, tmp_path / "heads").exists()


@pytest.mark.parametrize("qk_norm", [None, "rms_norm"])
def test_joint_attention_costs_what_torch_counts(tmp_path, qk_norm):
    model = {"encoding": "harope", "qk_norm": qk_norm, "dual_attention_layers": (0,)}
    train(still(scenes_config(), **model), tmp_path / "run", quiet=True)
    inspected = load_inspected_model(tmp_path / "run", grid=(2, 3))
    found = inspect_model(inspected, num_images=0)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), harope.cached(inspected.model):
        # The first call computes the matrices, which are not part of what an image costs.
        inspected.model(*inspected.example)
        with counter:
            inspected.model(*inspected.example)
    counts = counter.get_flop_counts()
    for layer, cost in zip(inspected.layers, found.costs.attention, strict=True):
        counted = sum(counts[f"SD3Transformer2DModel.{layer.name}"].values()) // 2
        # Fewer tokens than channels: the matrices are applied to them, not to the weights.
        assert counted == cost.plain + cost.basis_on_tokens, layer.name
    spent = sum(cost.basis_on_tokens for cost in found.costs.attention)
    assert found.costs.model_multiply_adds == counter.get_total_flops() // 2 - spent
    assert (found.scores is None) == (qk_norm is not None)
    assert any("norm" in note for note in found.notes) == (qk_norm is not None)
    rows = {row[0]: row[1:] for row in cost_rows(found.costs)}
    assert ("multiply-adds, basis on the weights" in rows) == (qk_norm is None)


def test_a_file_of_flux_has_kernels_by_the_rotation_that_flux_kept(tmp_path):
    model = CASES["flux"].make()
    install(model, "harope")
    move_encodings(model)
    path = save_encoding(model, tmp_path / "encoding.safetensors")
    found = inspect_model(load_inspected_model(path, grid=(3, 4)), num_images=2)
    assert found.kernels is not None
    assert found.kernels.shape == (4, 2, 5, 7)
    numbers = found.matrices["q"]
    assert numbers.axis_mixing is not None
    assert ((numbers.axis_mixing > 0) & (numbers.axis_mixing < numbers.plane_mixing)).all()
    assert write_heads(found, tmp_path / "heads").exists()


def test_the_kernel_of_flux_alone_is_the_mean_cosine_of_its_own_angles(tmp_path):
    model = CASES["flux"].make()
    install(model, "axial")
    inspected = load_inspected_model(save_encoding(model, tmp_path), grid=(1, 4))
    kernels = inspect_model(inspected, num_images=0).kernels
    ids = torch.zeros(4, 3)
    ids[:, 2] = torch.arange(4)
    cosines, _ = model.pos_embed(ids)
    assert kernels is not None
    assert torch.allclose(kernels[0, 0, 0, 3:], cosines.double().mean(dim=1), atol=1e-6)


def test_a_file_of_sd3_is_read_without_its_model(tmp_path):
    model = CASES["sd3"].make()
    with pytest.warns(ModelChangedWarning):
        install(model, "harope-v1", keep_absolute=False)
    move_encodings(model)
    found = inspect_model(load_inspected_model(save_encoding(model, tmp_path)), num_images=2)
    assert list(found.matrices) == ["q and k"]
    assert found.kernels is not None
    assert "without the model" in found.title


def test_a_parameter_that_is_not_finite_is_named(tmp_path):
    model = CASES["sd3"].make()
    with pytest.warns(ModelChangedWarning):
        install(model, "harope", keep_absolute=False)
    inspected = load_inspected_model(save_encoding(model, tmp_path))
    name, parameter = next(inspected.layers[1].encoding.named_parameters())
    with torch.no_grad():
        parameter.view(-1)[0] = torch.nan
    path = f"{inspected.layers[1].name}.{name}"
    with pytest.raises(ValueError, match=f"{re.escape(path)} contains NaN or infinity"):
        inspect_model(inspected, num_images=0)


def test_a_run_on_flux_is_its_encoding_once_it_has_ended(tmp_path):
    config = get_recipe("flux-lora-emoji").smoke(tmp_path / "made")
    train(replace(config, steps=2, num_samples=0), tmp_path / "run", quiet=True)
    found = inspect_model(load_inspected_model(tmp_path / "run"), num_images=2)
    assert found.matrices["q"].axis_mixing is not None
    step = list_checkpoints(tmp_path / "run")[-1]
    with pytest.raises(ValueError, match="pass the folder of a completed run"):
        load_inspected_model(step)


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"pairing": "same"}, "encoding harope-v1 of "),
        ({}, "encoding harope of "),
        ({"theta": 10.0}, "encoding harope (theta 10.0, pairing inverse) of "),
    ],
)
def test_titles_name_the_preset_or_the_options(options, title, tmp_path):
    model = CASES["sd3"].make()
    with pytest.warns(ModelChangedWarning):
        install(model, "harope", keep_absolute=False, **options)
    found = load_inspected_model(save_encoding(model, tmp_path)).title
    assert found.startswith(title)

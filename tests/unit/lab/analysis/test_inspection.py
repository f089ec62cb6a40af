import json
from dataclasses import replace
from functools import cache

import pytest
import timm
import torch

from harope.integrations import install, save_encoding
from harope.lab.analysis.inspection import inspect_model
from harope.lab.analysis.load import load_inspected_model
from harope.lab.analysis.page import conclusion, write_heads
from harope.lab.analysis.tables import change_rows, cost_rows, head_rows
from harope.lab.recipes import get_recipe
from harope.lab.training import train
from harope.models.dit import DiT
from support.page import checked_page


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    """A run of two steps whose rate is so small that no weight moves."""

    @cache
    def make(recipe, encoding):
        config = get_recipe(recipe).smoke(tmp_path_factory.mktemp("data"))
        still = replace(config.optimizer, lr=1e-30, weight_decay=0.0, warmup_steps=0)
        model = replace(config.model, encoding=encoding)
        config = replace(config, model=model, optimizer=still, steps=2)
        folder = tmp_path_factory.mktemp("runs") / f"{recipe}-{encoding}"
        train(config, folder, quiet=True)
        return folder

    return make


@pytest.mark.parametrize("recipe", ["digits-dit", "digits-vit"])
def test_the_initial_weights_are_those_that_the_training_drew(make_run, recipe):
    inspected = load_inspected_model(make_run(recipe, "mixed"))
    initial = inspected.initial_model()
    assert initial is not None
    then = initial.model.state_dict()
    for name, value in inspected.model.state_dict().items():
        assert torch.allclose(value, then[name], rtol=0, atol=1e-25), name
    found = inspect_model(inspected, num_images=2)
    assert max(max(column) for column in found.change.values()) < 1e-12
    assert torch.allclose(found.scores, found.initial_scores, rtol=0, atol=1e-12)


def test_the_initial_weights_of_a_run_with_init_are_those_it_names(make_run, tmp_path):
    source = make_run("digits-dit", "axial")
    config = get_recipe("digits-dit").smoke(tmp_path / "data")
    still = replace(config.optimizer, lr=1e-30, weight_decay=0.0, warmup_steps=0)
    model = replace(config.model, encoding="harope")
    train(
        replace(config, model=model, optimizer=still, steps=2, seed=5, init=str(source)),
        tmp_path / "run",
        quiet=True,
    )
    inspected = load_inspected_model(tmp_path / "run")
    found = inspect_model(inspected, num_images=2)
    assert max(max(column) for column in found.change.values()) < 1e-12
    source.rename(tmp_path / "gone")
    assert inspected.initial_model() is None
    (tmp_path / "gone").rename(source)


def test_a_dit_with_a_basis_has_all_numbers_and_pictures(make_run, tmp_path):
    inspected = load_inspected_model(make_run("digits-dit", "harope"))
    with torch.no_grad():
        for layer in inspected.layers:
            for parameter in layer.encoding.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    found = inspect_model(inspected, num_images=2)
    assert list(found.matrices) == ["q", "k"]
    assert found.notes == []
    assert list(found.attention) == ["noise 0.1", "noise 0.5", "noise 0.9"]
    page = write_heads(found, tmp_path / "heads")
    pictures = {path.name for path in page.parent.glob("*.svg")}
    assert pictures == {
        "attention-noise-0.1.svg",
        "attention-noise-0.5.svg",
        "attention-noise-0.9.svg",
        "distances.svg",
        "kernels.svg",
        "scores-before.svg",
        "scores.svg",
        "similarity.svg",
        "spectrum-k.svg",
        "spectrum-q.svg",
    }
    values = json.loads((page.parent / "heads.json").read_text())
    assert len(values["matrices"]["q"]["from_identity"]) == len(inspected.layers)
    titles = checked_page(page.read_text())
    assert page.read_text().count("<svg ") == len(pictures)
    distance = float(found.attention["noise 0.5"].distance[1, 0])
    assert f"noise 0.5, layer 1, head 0: {distance:.2f} tokens" in titles
    assert "In the median head, A for q differs from the identity" in page.read_text()
    assert len(head_rows(found)) == len(change_rows(found)) == 1 + len(inspected.layers)


def test_attention_is_a_probability_and_its_maps_are_relative_to_uniform(make_run):
    inspected = load_inspected_model(make_run("digits-vit", "none"))
    with torch.no_grad():
        for block in inspected.model.blocks:
            block.attn.qkv.weight.zero_()
            block.attn.qkv.bias.zero_()
    found = inspect_model(inspected, num_images=3)
    measured = found.attention["held-out images"]
    # 16 patches and the class token share alike.
    assert torch.allclose(measured.elsewhere, torch.full_like(measured.elsewhere, 1 / 17))
    assert torch.allclose(measured.maps, torch.full_like(measured.maps, 16 / 17))
    assert found.kernels is None
    assert any("does not turn pairs of channels by angles" in note for note in found.notes)


def test_inverse_pairing_has_numbers_of_queries_and_of_keys(tmp_path):
    options = {"pairing": "inverse"}
    model = DiT("DiT-S/8", depth=1, width=16, num_heads=2, num_classes=0, encoding_options=options)
    with torch.no_grad():
        model.blocks[0].attn.harope.basis.raw_scale[:, 0] += 1
    model.save_pretrained(tmp_path)
    found = inspect_model(load_inspected_model(tmp_path, grid=(2, 3)), num_images=4)
    assert list(found.matrices) == ["q", "k"]
    product = found.matrices["q"].singular_values * found.matrices["k"].singular_values.flip(-1)
    assert torch.allclose(product, torch.ones_like(product), atol=1e-5)
    assert found.attention == {}
    assert any("training is unknown" in note for note in found.notes)


def test_the_conclusion_is_about_the_matrices_of_queries_and_of_keys(tmp_path):
    DiT("DiT-S/8", depth=1, width=16, num_heads=2, num_classes=0).save_pretrained(tmp_path)
    found = inspect_model(load_inspected_model(tmp_path, grid=(2, 3)), num_images=0)
    identity = "All matrices are the identity: the encoding does what RoPE does."
    assert conclusion(found) == identity
    (same,) = found.matrices.values()
    changed = replace(same, from_identity=torch.tensor([[0.0, 0.2]]))
    found = replace(found, matrices={"q": same, "k": changed})
    assert identity not in conclusion(found)


@pytest.mark.parametrize(
    ("cosine", "says"),
    [
        (0.9, "Some heads changed alike: cosines between their changes reach 0.90."),
        (-0.9, "No two heads changed alike: the largest cosine between their changes is -0.90."),
    ],
)
def test_heads_that_changed_in_opposite_directions_did_not_change_alike(tmp_path, cosine, says):
    model = DiT("DiT-S/8", depth=1, width=16, num_heads=2, num_classes=0)
    with torch.no_grad():
        model.blocks[0].attn.harope.basis.raw_scale[:, 0] += 1
    model.save_pretrained(tmp_path)
    found = inspect_model(load_inspected_model(tmp_path, grid=(2, 3)), num_images=0)
    found = replace(found, cosines=torch.tensor([[1.0, cosine], [cosine, 1.0]]))
    assert says in conclusion(found)


def test_the_file_of_an_encoding_gives_its_matrices_and_kernels_without_a_model(tmp_path):
    model = timm.create_model(
        "vit_tiny_patch16_224", depth=2, embed_dim=32, num_heads=2, num_classes=0, img_size=32
    )
    with pytest.warns(match="."):
        install(model, "harope")
    with torch.no_grad():
        model.blocks[1].attn.harope.basis.raw_scale.add_(0.5)
    path = save_encoding(model, tmp_path / "encoding.safetensors")
    found = inspect_model(load_inspected_model(path, grid=(3, 3)), num_images=2)
    assert found.matrices["q"].from_identity[0].max() == pytest.approx(0, abs=1e-6)
    assert found.matrices["q"].from_identity[1].min() > 0.1
    assert found.kernels is not None
    assert found.kernels.shape == (2, 2, 5, 5)
    assert found.scores is None
    assert cost_rows(found.costs)[1][1:] == ("512", "1,024", "")
    assert write_heads(found, tmp_path / "heads").exists()


def test_kernels_of_axial_layers_are_the_closed_form(make_run):
    found = inspect_model(load_inspected_model(make_run("digits-dit", "axial")), num_images=0)
    assert found.matrices == {}
    assert any("no matrices" in note for note in found.notes)
    assert found.kernels is not None
    middle = found.kernels[..., found.sizes[0] - 1, found.sizes[1] - 1]
    assert torch.allclose(middle, torch.ones_like(middle))


@pytest.mark.parametrize("encoding", ["harope", "axial", "ape"])
def test_the_model_costs_what_its_parts_cost(make_run, encoding):
    inspected = load_inspected_model(make_run("digits-dit", encoding))
    costs, config = inspect_model(inspected, num_images=0).costs, inspected.model.config
    tokens, width = costs.tokens, config.width
    hidden = int(width * config.mlp_ratio)
    patch = config.patch_size**2
    rest = tokens * width * patch * (config.in_channels + config.out_channels)
    rest += 256 * width + width**2 + 2 * width**2
    rest += config.depth * (2 * tokens * width * hidden + 6 * width**2)
    assert costs.model_multiply_adds == rest + sum(cost.plain for cost in costs.attention)

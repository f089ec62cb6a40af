"""Encodings on disk."""

import json

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

import harope
from harope.integrations import read_description
from harope.integrations.base import get_install_state
from support.host import CASES, flux, move_encodings, run_images, sd3, vit

pytestmark = pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")


def saved(model, path, encoding="harope", **options):
    harope.install(model, encoding, **options)
    move_encodings(model)
    return harope.save_encoding(model, path)


def rewritten(path, change):
    """The file with `change(tensors, description)` applied."""
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["harope"])
    tensors = load_file(path)
    change(tensors, description)
    save_file(tensors, path, {"harope": json.dumps(description)})


@torch.no_grad()
@pytest.mark.parametrize("encoding", ["harope", "mixed", "string", "ape-learned", "none", "axial"])
@pytest.mark.parametrize("first", ["plain", "installed"])
def test_what_was_saved_is_read_into_another_model(case, encoding, first, tmp_path):
    sizes = (4, 4, 4) if case is CASES["flux"] else (4, 4)
    options = {"grid_sizes": sizes} if encoding == "ape-learned" else {}
    model, other = case.make(), case.make()
    saved(model, tmp_path, encoding, **options)
    if first == "installed":
        harope.install(other, encoding, **options)
    assert harope.load_encoding(other, tmp_path) is other
    assert torch.equal(case.run(other), case.run(model))


def test_the_file_tells_what_it_holds(tmp_path):
    path = saved(
        sd3(), tmp_path / "e.safetensors", "harope", keep_absolute=False, pairing="inverse"
    )
    assert path == tmp_path / "e.safetensors"
    described = read_description(path)
    assert described["name"] == "harope"
    assert described["options"] == {"pairing": "inverse"}
    assert described["keep_absolute"] is False
    assert described["model"] == "diffusers' SD3Transformer2DModel"
    assert described["layers"]["transformer_blocks.2.attn"] == [2, 16]


def test_reading_does_not_warn_of_a_change_that_the_file_asks_for(tmp_path, recwarn):
    saved(vit(), tmp_path)
    recwarn.clear()
    harope.load_encoding(vit(), tmp_path)
    assert not recwarn.list


def refused(model, path):
    """The message, and the model as it was."""
    before = get_install_state(model)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        harope.load_encoding(model, path)
    assert get_install_state(model) is before
    return str(caught.value)


def test_a_file_of_another_kind_of_model_is_refused(tmp_path):
    saved(vit(), tmp_path)
    assert "made for timm's VisionTransformer, but the model is diffusers' SD3" in refused(
        sd3(), tmp_path
    )


def test_another_number_of_heads_is_named(tmp_path):
    saved(vit(), tmp_path)
    message = refused(vit(num_heads=4), tmp_path)
    assert "has 2 heads of 16 channels at blocks.0.attn, but the model has 4 of 8" in message


def test_another_depth_is_named(tmp_path):
    saved(vit(), tmp_path)
    assert "has no encoding for blocks.2.attn" in refused(vit(depth=3), tmp_path)
    assert "an encoding for blocks.1.attn, which the model does not" in refused(
        vit(depth=1), tmp_path
    )


def test_another_installed_encoding_is_named(tmp_path):
    saved(vit(), tmp_path)
    model = harope.install(vit(), "axial")
    assert "name 'harope', but the installed one has 'axial'" in refused(model, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, d: t.pop("blocks.1.attn.harope.basis.skew_v"), r"missing ['blocks.1.attn.har"),
        (lambda t, d: t.update(more=torch.zeros(1)), "unknown ['more']"),
        (
            lambda t, d: t.update({"blocks.0.attn.harope.basis.raw_scale": torch.zeros(2, 3)}),
            "blocks.0.attn.harope.basis.raw_scale has the shape (2, 3), expected (2, 16)",
        ),
        (lambda t, d: d.update(name="harpoe"), "encoding 'harpoe' is unknown"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_reason(tmp_path, change, said):
    path = saved(vit(), tmp_path)
    rewritten(path, change)
    assert said in refused(vit(), path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format=2), "has the format 2, but this version of harope reads 1"),
        (lambda d: d.pop("format"), "has 'nothing' as 'format' of its description: expected a int"),
        (lambda d: d.update(name=None), "has None as 'name'"),
        (lambda d: d.update(name=["harope"]), "has ['harope'] as 'name'"),
        (lambda d: d.pop("model"), "as 'model' of its description"),
        (lambda d: d.update(options=[]), "has [] as 'options'"),
        (lambda d: d.update(options={"theta": None}), "theta"),
        (lambda d: d.update(options={"theta": "many"}), "theta"),
        (lambda d: d.update(options={"theta": float("nan")}), "theta"),
        (lambda d: d.update(options={"colour": 3}), "colour"),
        (lambda d: d.update(keep_absolute=1), "has 1 as 'keep_absolute'"),
        (lambda d: d.update(layers=["blocks.0.attn"]), "as 'layers'"),
        (lambda d: d["layers"].update({"blocks.0.attn": 2}), "has 2 as heads and channels of"),
        (lambda d: d["layers"].update({"blocks.0.attn": ["2", 16]}), "expected two integers"),
    ],
)
def test_a_description_of_another_kind_is_refused_with_the_reason(tmp_path, change, said):
    path = saved(vit(), tmp_path)
    rewritten(path, lambda tensors, description: change(description))
    assert said in refused(vit(), path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "[" * 100_000])
def test_a_description_that_is_no_object_is_refused(tmp_path, text):
    path = saved(vit(), tmp_path)
    save_file(load_file(path), path, {"harope": text})
    assert "description" in refused(vit(), path)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.full((2, 16), float("nan")), "has values of blocks.0.attn.harope.basis.raw_scale"),
        (torch.full((2, 16), float("inf")), "that are not finite"),
        (torch.zeros(2, 16, dtype=torch.int8), "is of torch.int8, expected a floating-point dty"),
        (torch.zeros(2, 16, dtype=torch.bool), "is of torch.bool, expected a floating-point"),
        (torch.zeros(16, 2), "has the shape (16, 2), expected (2, 16)"),
        (torch.zeros(()), "has the shape (), expected (2, 16)"),
    ],
)
def test_values_that_no_training_writes_are_refused(tmp_path, value, said):
    path = saved(vit(), tmp_path)
    name = "blocks.0.attn.harope.basis.raw_scale"
    rewritten(path, lambda tensors, description: tensors.update({name: value}))
    assert said in refused(vit(), path)
    model = harope.install(vit(), "harope")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    assert said in refused(model, path)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_encodings_of_a_model_in_half_precision_are_read(tmp_path):
    model = harope.install(vit(), "harope").to(torch.bfloat16)
    move_encodings(model)
    other = harope.load_encoding(vit(), harope.save_encoding(model, tmp_path))
    for ours, theirs in zip(
        harope.get_encodings(other).values(), harope.get_encodings(model).values(), strict=True
    ):
        assert torch.equal(ours.basis.skew_u, theirs.basis.skew_u.float())


@torch.no_grad()
def test_layers_that_were_pruned_are_not_saved(tmp_path):
    model, other = harope.install(vit(depth=4), "harope"), vit(depth=4)
    move_encodings(model)
    for each in (model, other):
        each.prune_intermediate_layers([1])
    assert list(harope.get_encodings(model)) == ["blocks.0.attn", "blocks.1.attn"]
    harope.load_encoding(other, harope.save_encoding(model, tmp_path))
    assert list(read_description(tmp_path)["layers"]) == ["blocks.0.attn", "blocks.1.attn"]
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(other.forward_features(images), model.forward_features(images))
    harope.remove(model)
    assert not [name for name in model.state_dict() if "harope" in name]


def test_a_damaged_file_is_refused(tmp_path):
    path = saved(vit(), tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "is damaged" in refused(vit(), path)


def test_a_file_without_a_description_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "harope.safetensors")
    assert "holds no encoding" in refused(vit(), tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    assert "is not a file" in refused(flux(), tmp_path)


def test_a_plain_or_folded_model_has_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match=r"holds no encoding of harope's: call harope.install"):
        harope.save_encoding(vit(), tmp_path)
    model = harope.install(vit(), "harope")
    harope.fold(model)
    with pytest.raises(ValueError, match=r"save it before harope.fold"):
        harope.save_encoding(model, tmp_path)


# --- the hub


def test_an_encoding_is_read_from_the_hub_by_its_id(tmp_path, monkeypatch):
    import huggingface_hub

    model = harope.install(vit(), "axial-learned")
    move_encodings(model)
    harope.save_encoding(model, tmp_path)
    asked = []

    def fetch(repo_id, *, allow_patterns, revision):
        asked.append((repo_id, allow_patterns, revision))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *arguments, **options: None)
    other = harope.load_encoding(vit(), "somebody/encoding", revision="v2")
    assert asked == [("somebody/encoding", ["harope.safetensors"], "v2")]
    assert torch.equal(run_images(other), run_images(model))


def test_an_id_that_cannot_be_downloaded_is_an_error(monkeypatch):
    import huggingface_hub

    def fail(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", fail)
    with pytest.raises(ValueError, match=r"cannot be reached \(no network\): check the network"):
        harope.load_encoding(vit(), "somebody/encoding")

"""Weights on disk: the hub's layout, and checkpoints of training."""

import json
import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from harope import DiT, list_encodings

GRID = {"ape-learned": {"grid_sizes": (4, 4)}}


def answer(model: DiT) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    with torch.no_grad():
        return model(x, torch.tensor([3.0, 900.0]), torch.tensor([0, 4]))


@pytest.fixture
def saved(small_dit, tmp_path) -> Path:
    """A folder in the hub's layout."""
    small_dit().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("encoding", list_encodings())
def test_a_model_survives_saving(small_dit, tmp_path, encoding):
    model = small_dit(encoding=encoding, encoding_options=GRID.get(encoding, {}))
    model.save_pretrained(tmp_path / "a" / "model")
    again = DiT.from_pretrained(tmp_path / "a" / "model")
    assert again.config == model.config
    assert not again.training
    assert torch.equal(answer(again), answer(model))


def test_the_folder_has_the_layout_of_the_hub(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((saved / "config.json").read_text())["encoding"] == "harope"
    assert "blocks.0.attn.harope.basis.raw_scale" in load_file(saved / "model.safetensors")


def test_half_precision_files_become_float32(small_dit, tmp_path):
    model = small_dit().bfloat16()
    model.save_pretrained(tmp_path)
    again = DiT.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    assert torch.equal(answer(again), answer(model.float()))


# --- checkpoints of training


@pytest.fixture
def run(small_dit, tmp_path) -> Path:
    """A run of two checkpoints, seeds 1 and 2, averaged weights of seeds 11 and 12."""
    for step, seed in ((90, 1), (1000, 2)):
        folder = tmp_path / "run" / "checkpoints" / f"step-{step:08d}"
        small_dit(seed).save_pretrained(folder)
        small_dit(seed + 10).save_pretrained(tmp_path / "ema")
        shutil.move(tmp_path / "ema" / "model.safetensors", folder / "ema.safetensors")
    (tmp_path / "run" / "checkpoints" / ".step-00002000.partial").mkdir()
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("place", "weights", "seed"),
    [
        (".", "ema", 12),
        (".", "model", 2),
        ("checkpoints/step-00000090", "ema", 11),
        ("checkpoints/step-00000090", "model", 1),
    ],
)
def test_a_run_gives_its_last_checkpoint_and_a_checkpoint_itself(
    small_dit, run, place, weights, seed
):
    model = DiT.from_checkpoint(run / place, weights=weights)
    assert torch.equal(answer(model), answer(small_dit(seed)))


def test_a_checkpoint_is_also_a_pretrained_model(small_dit, run):
    model = DiT.from_pretrained(run / "checkpoints" / "step-00001000")
    assert torch.equal(answer(model), answer(small_dit(2)))


@pytest.mark.parametrize("weights", ["ema", "model"])
def test_a_pretrained_folder_has_one_set_of_weights(small_dit, saved, weights):
    assert torch.equal(answer(DiT.from_checkpoint(saved, weights=weights)), answer(small_dit()))


def test_other_weights_are_refused(saved):
    with pytest.raises(ValueError, match=r"weights 'last' must be 'ema' or 'model'"):
        DiT.from_checkpoint(saved, weights="last")


# --- damaged and foreign folders


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_named(saved, share):
    content = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"checkpoint .*model is damaged"):
        DiT.from_pretrained(saved)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"3", b'{"depth": "2"}'])
def test_a_damaged_configuration_is_refused(saved, text):
    (saved / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"damaged|not the configuration of a DiT"):
        DiT.from_pretrained(saved)


def test_the_configuration_of_another_model_is_refused(saved):
    (saved / "config.json").write_text('{"model_type": "clip", "depth": 2}')
    with pytest.raises(ValueError, match=r"not the configuration of a DiT: .*'model_type'"):
        DiT.from_pretrained(saved)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(saved, file):
    (saved / file).unlink()
    message = r"holds no checkpoint: expected config.json and model.safetensors"
    with pytest.raises(ValueError, match=message):
        DiT.from_pretrained(saved)


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere holds no checkpoint: expected config.json"):
        DiT.from_checkpoint(tmp_path / "nowhere")


def test_weights_of_another_encoding_are_refused_by_name(small_dit, saved, tmp_path):
    small_dit(encoding="mixed").save_pretrained(tmp_path / "mixed")
    shutil.copy(tmp_path / "mixed" / "model.safetensors", saved)
    message = r"missing \['blocks.0.attn.harope.basis.raw_scale'.*unknown \['blocks.0.attn.harope"
    with pytest.raises(ValueError, match=message):
        DiT.from_pretrained(saved)


def test_weights_of_another_shape_are_refused_by_name(saved):
    weights = load_file(saved / "model.safetensors")
    weights["x_embedder.proj.bias"] = torch.zeros(3)
    save_file(weights, saved / "model.safetensors")
    message = r"x_embedder.proj.bias has the shape \(3,\), expected \(32,\)"
    with pytest.raises(ValueError, match=message):
        DiT.from_pretrained(saved)


# --- the hub


def test_an_id_of_the_hub_is_fetched(saved, small_dit, monkeypatch):
    asked = []

    def fetch(hub_id: str, allow_patterns: list[str]) -> str:
        asked.append((hub_id, allow_patterns))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    model = DiT.from_pretrained("somebody/dit-b-2-harope")
    assert asked == [("somebody/dit-b-2-harope", ["config.json", "model.safetensors"])]
    assert torch.equal(answer(model), answer(small_dit()))


@pytest.mark.parametrize("error", [OSError("no network"), ValueError("not an id")])
def test_a_name_that_is_neither_folder_nor_reachable_says_so(monkeypatch, error):
    def fetch(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(ValueError, match=rf"'some/model' is not a folder .*\({error}\): pass a"):
        DiT.from_pretrained("some/model")


def test_without_the_hub_library_a_missing_folder_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"'some/model' is not a folder: .* huggingface_hub inst"):
        DiT.from_pretrained("some/model")

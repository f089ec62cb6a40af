"""Weights on disk: the hub's layout, and checkpoints of training."""

import inspect
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weight: weight.fill_(torch.nan),
            r"proj.weight has values that are NaN or infinite",
        ),
        (lambda weight: weight.to(torch.int8), r"proj.weight has the type torch.int8"),
    ],
)
def test_weights_that_are_no_finite_floats_are_refused(saved, change, message):
    state = load_file(saved / "model.safetensors")
    state["x_embedder.proj.weight"] = change(state["x_embedder.proj.weight"])
    save_file(state, saved / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        DiT.from_pretrained(saved)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}},
        [],
    ],
    ids=str,
)
@pytest.mark.parametrize("length", [None, 2**62])
def test_sizes_that_a_header_claims_are_checked(saved, header, length):
    text = json.dumps(header).encode()
    content = (length or len(text)).to_bytes(8, "little") + text + bytes(8)
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint .*model is damaged"):
        DiT.from_pretrained(saved)


@pytest.mark.parametrize(
    "values",
    [
        {"encoding": 3},
        {"encoding": ["harope"]},
        {"encoding_options": [1]},
        {"depth": "2"},
        {"width": None},
        {"input_size": 8},
        {"mlp_ratio": float("nan")},
        {"qk_norm": 1},
    ],
    ids=str,
)
def test_fields_of_another_type_are_refused(saved, values):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(ValueError, match=next(iter(values))):
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
    requests = []

    def fetch(hub_id: str, **options) -> str:
        requests.append((hub_id, options))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    model = DiT.from_pretrained("somebody/dit-b-2-harope", revision="v1", local_files_only=True)
    ((hub_id, options),) = requests
    assert hub_id == "somebody/dit-b-2-harope"
    assert options["allow_patterns"] == ["config.json", "model.safetensors"]
    assert options["revision"] == "v1"
    assert options["local_files_only"]
    assert torch.equal(answer(model), answer(small_dit()))


class FakeHub:
    """Records what is uploaded."""

    calls: ClassVar[list] = []

    def __init__(self, token=None):
        self.calls.clear()
        self.calls.append(("token", token))

    def whoami(self):
        return {"name": "somebody"}

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("create_repo", repo_id, private, exist_ok))
        return SimpleNamespace(repo_id=f"somebody/{repo_id}")

    def create_branch(self, repo_id, *, branch, exist_ok):
        self.calls.append(("create_branch", repo_id, branch, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, revision, commit_message, create_pr):
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        self.calls.append(("upload", repo_id, revision, commit_message, create_pr, files))
        return "https://hub/commit/1"


def test_a_model_is_pushed_to_the_hub_with_the_files_it_saves(saved, small_dit, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    url = small_dit().push_to_hub("dit", private=True, token="t", branch="b", commit_message="m")
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    assert url == "https://hub/commit/1"
    assert FakeHub.calls == [
        ("token", "t"),
        ("create_repo", "dit", True, True),
        ("create_branch", "somebody/dit", "b", True),
        ("upload", "somebody/dit", "b", "m", None, files),
    ]


def test_saving_pushes_on_request_to_a_repository_of_the_folders_name(
    small_dit, tmp_path, monkeypatch
):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    assert small_dit().save_pretrained(tmp_path / "one") is None
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "stored")
    url = small_dit().save_pretrained(tmp_path / "two", push_to_hub=True)
    assert url == "https://hub/commit/1"
    assert [call[:2] for call in FakeHub.calls[1:]] == [
        ("create_repo", "two"),
        ("upload", "somebody/two"),
    ]


@pytest.mark.parametrize("method", ["save_pretrained", "from_pretrained", "push_to_hub"])
def test_methods_take_arguments_of_the_hubs_mixin(method):
    ours = inspect.signature(getattr(DiT, method)).parameters.values()
    mixin = inspect.signature(getattr(huggingface_hub.PyTorchModelHubMixin, method)).parameters
    names = {p.name for p in ours if p.kind is not inspect.Parameter.VAR_KEYWORD}
    assert names <= mixin.keys()


def test_without_the_hub_library_pushing_says_what_to_install(small_dit, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install huggingface_hub"):
        small_dit().push_to_hub("dit")


def test_a_name_that_is_neither_folder_nor_cached_says_so(monkeypatch):
    def fetch(*args, **kwargs):
        raise OSError("no snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(ValueError, match=r"'some/model' is not a folder and not cached"):
        DiT.from_pretrained("some/model", local_files_only=True)


def test_without_the_hub_library_a_missing_folder_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"'some/model' is not a folder: .*huggingface_hub inst"):
        DiT.from_pretrained("some/model")

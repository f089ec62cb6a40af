import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from harope._utils.atomic import remove_abandoned, temporary_path
from harope.lab.training import checkpoint
from harope.lab.training.checkpoint import (
    CheckpointState,
    check_finite,
    check_same_tensors,
    load_checkpoint,
    load_newest_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
    set_aside,
)
from harope.models.checkpoint_files import list_checkpoints


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


def save(run, step, keep=2, **tensors):
    stems = {stem: {"weight": torch.full((2,), float(step))} for stem in ("model", "ema")}
    stems |= {"optimizer": {}} | tensors
    state = CheckpointState(step=step, seconds=1.0)
    return save_checkpoint(run, state, model_config={}, train_config={}, tensors=stems, keep=keep)


def test_checkpoints_are_listed_oldest_first_and_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10):
        save(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000010"]


def test_what_is_written_is_read_back(tmp_path):
    tensors, state = load_checkpoint(save(tmp_path, 3))
    assert torch.equal(tensors["model"]["weight"], torch.tensor([3.0, 3.0]))
    assert state == CheckpointState(step=3, seconds=1.0, checksums="SHA256SUMS")


def test_a_partial_folder_is_no_checkpoint(tmp_path):
    save(tmp_path, 1)
    temporary_path(tmp_path / "checkpoints/step-00000002").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001"]
    save(tmp_path, 2)
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "config.json",
     "train.json", "SHA256SUMS"],
)  # fmt: skip
@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], flipped, None])
def test_a_damaged_file_is_named(tmp_path, name, damage):
    file = save(tmp_path, 1) / name
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=rf"step-00000001/({name}|SHA256SUMS)"):
        load_checkpoint(file.parent)


@pytest.mark.parametrize(
    "text", ["[]", "null", "{}", '{"step": "many"}', '{"step": 2}', "[" * 100_000, "\xff"]
)
def test_a_state_of_a_wrong_shape_is_refused(tmp_path, text):
    """In a checkpoint of an older version, which has no checksums."""
    folder = save(tmp_path, 1)
    (folder / "SHA256SUMS").unlink()
    (folder / "state.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"state\.json"):
        load_checkpoint(folder)


def test_a_checkpoint_without_checksums_of_an_older_version_is_read(tmp_path):
    folder = save(tmp_path, 1)
    (folder / "SHA256SUMS").unlink()
    (folder / "state.json").write_text('{"step": 1, "seconds": 1.0, "images": 4}')
    assert load_checkpoint(folder)[1] == CheckpointState(step=1, seconds=1.0, images=4)


def test_the_newest_checkpoint_that_is_not_damaged_is_loaded(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step, keep=3)
    for step in (2, 3):
        (tmp_path / f"checkpoints/step-0000000{step}/ema.safetensors").write_bytes(b"")
    newest = load_newest_checkpoint(tmp_path)
    assert newest.folder.name == "step-00000001"
    assert [folder.name for folder in newest.damaged] == ["step-00000003", "step-00000002"]
    moved = set_aside(tmp_path / "checkpoints/step-00000003")
    assert moved.name == "step-00000003.damaged"
    assert moved not in list_checkpoints(tmp_path)


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_again(tmp_path):
    (save(tmp_path, 1) / "state.json").unlink()
    with pytest.raises(ValueError, match=r"step-00000001 cannot be read .*no older one can"):
        load_newest_checkpoint(tmp_path)
    assert load_newest_checkpoint(tmp_path / "another") is None


def test_values_that_are_not_finite_are_named():
    tensors = {"model": {"weight": torch.ones(3), "steps": torch.tensor(1)}}
    check_finite(tensors)
    tensors["ema"] = {"weight": torch.tensor([1.0, torch.nan, torch.inf])}
    with pytest.raises(ValueError, match="2 of 3 values of ema weight are not finite"):
        check_finite(tensors)


def test_old_checkpoints_are_renamed_before_they_are_removed(tmp_path, monkeypatch):
    """Killed in between, a process leaves no checkpoint with some of its files."""
    save(tmp_path, 1, keep=1)
    monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)
    save(tmp_path, 2, keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002"]
    monkeypatch.undo()
    remove_abandoned(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    before = load_checkpoint(save(tmp_path, 1, keep=1))[1]
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match=r"model.safetensors cannot be written: .*No space left"):
        save(tmp_path, 2, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert load_checkpoint(tmp_path / "checkpoints/step-00000001")[1] == before


def test_tensors_of_another_shape_are_named():
    check_same_tensors({"a": torch.ones(2)}, {"a": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"it has a\.0 2, not 3"):
        check_same_tensors({"a": torch.ones(2)}, {"a": torch.ones(3)})
    with pytest.raises(ValueError, match=r"it has b absent, not \[3\]"):
        check_same_tensors({}, {"b": torch.ones(3)})


@pytest.mark.parametrize("fused", [True, False])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(fused):
    torch.manual_seed(0)
    model, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.1, fused=fused) for m in (model, twin)]

    def step(m, optimizer):
        optimizer.zero_grad()
        m(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    step(model, optimizers[0])
    twin.load_state_dict(model.state_dict())
    load_optimizer_tensors(optimizers[1], twin, optimizer_tensors(optimizers[0], model))
    step(model, optimizers[0])
    step(twin, optimizers[1])
    assert torch.equal(model.weight, twin.weight)


def test_the_state_of_another_optimizer_is_refused():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    state = {f"{key}.weight": torch.zeros(2, 3) for key in ("exp_avg", "exp_avg_sq", "step")}
    load_optimizer_tensors(optimizer, model, state)
    for wrong, words in (
        ({"momentum_buffer.weight": torch.zeros(2, 3)}, "another optimizer for weight"),
        ({name.replace("weight", "other"): v for name, v in state.items()}, "optimizer for other"),
        (state | {"exp_avg.weight": torch.zeros(3)}, r"exp_avg of weight has the shape \[3\]"),
    ):
        with pytest.raises(ValueError, match=words):
            load_optimizer_tensors(optimizer, model, wrong)

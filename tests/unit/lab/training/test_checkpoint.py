import pytest
import torch
from torch import nn

from harope._utils.atomic import temporary_path
from harope.lab.training.checkpoint import (
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from harope.models.checkpoint_files import list_checkpoints


def save(run, step, **tensors):
    stems = {stem: {"weight": torch.full((2,), float(step))} for stem in ("model", "ema")}
    stems |= {"optimizer": {}} | tensors
    return save_checkpoint(run, step, config={}, tensors=stems, state={"seconds": 1.0}, keep=2)


def test_checkpoints_are_listed_oldest_first_and_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10):
        save(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000010"]


def test_what_is_written_is_read_back(tmp_path):
    tensors, state = load_checkpoint(save(tmp_path, 3))
    assert torch.equal(tensors["model"]["weight"], torch.tensor([3.0, 3.0]))
    assert state == {"step": 3, "seconds": 1.0}


def test_a_partial_folder_is_no_checkpoint(tmp_path):
    save(tmp_path, 1)
    temporary_path(tmp_path / "checkpoints/step-00000002").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001"]
    save(tmp_path, 2)
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.mark.parametrize("name", ["ema.safetensors", "state.json"])
def test_a_damaged_file_is_named_with_the_mend(tmp_path, name):
    folder = save(tmp_path, 1)
    (folder / name).write_bytes(b"{")
    with pytest.raises(ValueError, match=r"checkpoint .*step-00000001.*remove"):
        load_checkpoint(folder)


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

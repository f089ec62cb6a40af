"""Muon for the matrices of the blocks, AdamW for the rest."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from harope import DiT
from harope.cli.main import main
from harope.lab.recipes import get_recipe
from harope.lab.training import OptimizerConfig, train
from harope.lab.training.checkpoint import load_optimizer_tensors, optimizer_tensors
from harope.lab.training.optim import create_optimizer, hidden_matrices
from harope.models.dit.config import DiTConfig
from harope.models.mmdit import create_mmdit
from harope.models.vit import ViTConfig, create_vit
from harope.rope import encoding_parameters, parameter_groups
from support.mmdit import mmdit_config

pytestmark = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9"
)

MUON = OptimizerConfig(name="muon", lr=1e-2, weight_decay=0.1)


def dit():
    torch.manual_seed(0)
    sizes = {"depth": 2, "width": 32, "num_heads": 2, "patch_size": 2, "in_channels": 1}
    model = DiT(DiTConfig(num_classes=3, label_dropout=0.0, **sizes))
    # Zero gates would keep gradients from the blocks.
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def optimizer_of(model, config=MUON):
    return create_optimizer(model, parameter_groups(model, config.weight_decay), config)


def loss_of(model):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 1, 8, 8, generator=generator)
    return model(x, torch.full((4,), 500.0), torch.tensor([0, 1, 2, 0])).square().mean()


def step(model, *optimizers):
    loss_of(model).backward()
    for optimizer in optimizers:
        optimizer.step()
    model.zero_grad()


def assert_same(model, other, equal):
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs) == equal, name


def names_of_muon(model):
    """Names, without the number of the block, of what is Muon's; all else must be AdamW's."""
    groups = optimizer_of(model).param_groups
    muon = [id(p) for group in groups if "momentum" in group for p in group["params"]]
    adamw = [id(p) for group in groups if "betas" in group for p in group["params"]]
    assert sorted(muon + adamw) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert not {id(p) for p in encoding_parameters(model)} & set(muon)
    names = [name for name, p in model.named_parameters() if id(p) in muon]
    return {".".join(part for part in name.split(".") if not part.isdigit()) for name in names}


def test_matrices_of_a_dit():
    model = dit()
    assert names_of_muon(model) == {
        "blocks.attn.qkv.weight",
        "blocks.attn.proj.weight",
        "blocks.mlp.fc1.weight",
        "blocks.mlp.fc2.weight",
        "blocks.adaLN_modulation.weight",
    }
    assert len(hidden_matrices(model)) == 2 * 5
    assert any(p.ndim == 2 for p in encoding_parameters(model))


def test_matrices_of_a_vision_transformer():
    sizes = {"depth": 1, "width": 32, "num_heads": 2, "patch_size": 4, "num_classes": 3}
    for encoding in ("harope", "ape-learned"):
        model = create_vit(ViTConfig(input_size=(8, 8), encoding=encoding, **sizes))
        assert names_of_muon(model) == {
            "blocks.attn.qkv.weight",
            "blocks.attn.proj.weight",
            "blocks.mlp.fc1.weight",
            "blocks.mlp.fc2.weight",
        }


def test_matrices_of_an_mmdit():
    model = create_mmdit(mmdit_config(dual_attention_layers=(0,)))
    names = names_of_muon(model)
    assert {
        "transformer_blocks.attn.to_q.weight",
        "transformer_blocks.attn.add_k_proj.weight",
        "transformer_blocks.attn.to_out.weight",
        "transformer_blocks.attn2.to_v.weight",
        "transformer_blocks.ff.net.proj.weight",
        "transformer_blocks.norm1.linear.weight",
    } <= names
    assert all(name.startswith("transformer_blocks.") for name in names)


def test_frozen_matrices_are_left_out_and_none_at_all_is_refused():
    model = dit()
    model.blocks[0].requires_grad_(False)
    assert len(hidden_matrices(model)) == 5
    model.blocks.requires_grad_(False)
    with pytest.raises(ValueError, match="'muon', but no weight matrix of the model's blocks"):
        hidden_matrices(model)


def test_steps_are_those_of_both_optimizers_by_hand():
    ours, model = dit(), dit()
    named = dict(model.named_parameters())
    weights = {name for name in named if name.startswith("blocks") and name.endswith("weight")}
    decayed = [p for name, p in named.items() if p.ndim > 1 and ".harope." not in name]
    muon = torch.optim.Muon(
        [named[name] for name in weights],
        lr=1e-2,
        weight_decay=0.1,
        momentum=0.95,
        nesterov=True,
        adjust_lr_fn="match_rms_adamw",
    )
    rest = [p for name, p in named.items() if name not in weights]
    groups = [
        {"params": [p for p in rest if any(p is one for one in decayed)], "weight_decay": 0.1},
        {"params": [p for p in rest if all(p is not one for one in decayed)], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=1e-2, fused=True)
    optimizer = optimizer_of(ours)
    for _ in range(3):
        step(ours, optimizer)
        step(model, muon, adamw)
    assert_same(ours, model, equal=True)


def test_updates_of_a_matrix_are_as_large_as_those_of_adamw():
    """AdamW's have a root mean square of 0.2 to 0.4 of the rate; Muon is scaled to 0.2."""
    model, before = dit(), dit()
    for weight in hidden_matrices(model):
        weight.grad = torch.randn_like(weight)
    optimizer_of(model, replace(MUON, weight_decay=0.0)).step()
    for new, old in zip(hidden_matrices(model), hidden_matrices(before), strict=True):
        assert (new - old).square().mean().sqrt().item() == pytest.approx(0.2 * 1e-2, rel=0.2)


def test_adamw_alone_has_the_groups_of_the_task():
    model = dit()
    groups = parameter_groups(model, 0.1)
    optimizer = create_optimizer(model, groups, OptimizerConfig(weight_decay=0.1))
    assert type(optimizer) is torch.optim.AdamW
    assert [group["params"] for group in optimizer.param_groups] == [g["params"] for g in groups]


def test_a_loaded_state_goes_on_and_its_groups_are_those_of_the_steps():
    model, twin = dit(), dit()
    optimizer, other = optimizer_of(model), optimizer_of(twin)
    step(model, optimizer)
    twin.load_state_dict(model.state_dict())
    # torch copies no tensors here.
    other.load_state_dict(deepcopy(optimizer.state_dict()))
    step(model, optimizer)
    step(twin, other)
    assert_same(model, twin, equal=True)
    for group in other.param_groups:
        group["lr"] = 0.0
    step(twin, other)
    assert_same(model, twin, equal=True)


def test_tensors_of_a_checkpoint_go_on_as_if_they_had_not_stopped():
    model, twin = dit(), dit()
    optimizer, other = optimizer_of(model), optimizer_of(twin)
    step(model, optimizer)
    twin.load_state_dict(model.state_dict())
    tensors = optimizer_tensors(optimizer, model)
    assert "momentum_buffer.blocks.0.attn.qkv.weight" in tensors
    assert {"exp_avg.blocks.0.attn.qkv.bias", "step.blocks.0.attn.qkv.bias"} <= tensors.keys()
    load_optimizer_tensors(other, twin, tensors)
    step(model, optimizer)
    step(twin, other)
    assert_same(model, twin, equal=True)


def test_a_scaler_takes_the_same_step_and_skips_all_of_one_that_overflows():
    plain, scaled = dit(), dit()
    step(plain, optimizer_of(plain))
    optimizer, scaler = optimizer_of(scaled), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(loss_of(scaled)).backward()
    scaler.step(optimizer)
    scaler.update()
    assert_same(plain, scaled, equal=True)
    optimizer.zero_grad()
    scaler.scale(loss_of(scaled)).backward()
    scaled.final_layer.linear.bias.grad[0] = torch.inf
    scaler.step(optimizer)
    assert_same(plain, scaled, equal=True)


def test_a_closure_is_called_once_and_its_loss_returned():
    model, calls = dit(), []

    def closure():
        calls.append(loss_of(model))
        calls[-1].backward()
        return calls[-1]

    with torch.no_grad():
        loss = optimizer_of(model).step(closure)
    assert loss is calls[0]
    assert len(calls) == 1
    assert_same(model, dit(), equal=False)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, factor):
    config = get_recipe("digits-dit").smoke(tmp_path)
    optimizer = replace(config.optimizer, name="muon", qk_lr_multiplier=factor, clip_norm=1.0)
    config = replace(config, optimizer=optimizer)
    whole = train(config, tmp_path / "whole", quiet=True)
    train(replace(config, steps=2), tmp_path / "parts", quiet=True)
    parts = train(config, tmp_path / "parts", quiet=True)
    for stem in ("model", "ema", "optimizer"):
        expected, found = (load_file(run / f"{stem}.safetensors") for run in (whole, parts))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_command_line_trains_with_it(tmp_path):
    run = tmp_path / "run"
    fields = ("--optimizer.name", "muon", "--out", str(run), "--quiet")
    assert main(["train", "scenes-dit", "--smoke", *fields]) == 0
    assert json.loads((run / "config.json").read_text())["optimizer"]["name"] == "muon"
    last = sorted((run / "checkpoints").iterdir())[-1]
    tensors = load_file(last / "optimizer.safetensors")
    assert tensors["momentum_buffer.blocks.0.attn.qkv.weight"].any()
    assert any(name.startswith("exp_avg.") and ".harope." in name for name in tensors)

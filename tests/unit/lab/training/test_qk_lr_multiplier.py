"""Another rate for queries and keys."""

from dataclasses import replace

import pytest
import torch

from harope import DiT
from harope.lab.training import OptimizerConfig
from harope.lab.training.optim import QKLRMultiplier, create_optimizer, query_key_rows
from harope.models.dit.config import DiTConfig
from harope.rope import parameter_groups

CONFIG = DiTConfig(
    depth=2, width=32, num_heads=2, patch_size=2, in_channels=1, num_classes=3, label_dropout=0.0
)


def model():
    torch.manual_seed(0)
    made = DiT(CONFIG)
    # Zero gates would keep gradients from the attention.
    for block in made.layers:
        torch.nn.init.normal_(block.adaLN_modulation[-1].weight, std=0.5)
    torch.nn.init.normal_(made.final_layer.linear.weight)
    return made


def steps(made, optimizer, count=3):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(4, 1, 8, 8, generator=generator)
        made(x, torch.full((4,), 500.0), torch.tensor([0, 1, 2, 0])).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    "name",
    [
        "adamw",
        pytest.param(
            "muon",
            marks=pytest.mark.skipif(
                not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9"
            ),
        ),
    ],
)
def test_the_factor_is_a_factor_on_the_rate_of_these_rows_alone(name):
    def optimizer_of(made, lr):
        groups = parameter_groups(made, weight_decay=0.1)
        return create_optimizer(made, groups, OptimizerConfig(name=name, lr=lr))

    factor, lr = 3.0, 1e-3
    ours = model()
    optimizer = optimizer_of(ours, lr)
    QKLRMultiplier(ours, optimizer, factor)
    steps(ours, optimizer, count=1)

    plain, fast = model(), model()
    steps(plain, optimizer_of(plain, lr), count=1)
    steps(fast, optimizer_of(fast, factor * lr), count=1)
    for name, value in ours.named_parameters():
        reference = plain.get_parameter(name).clone()
        if "attn.qkv" in name:
            reference[:64] = fast.get_parameter(name)[:64]
        torch.testing.assert_close(value, reference, rtol=0, atol=1e-7)


def test_a_factor_of_one_changes_nothing_beyond_rounding():
    ours, plain = model(), model()
    optimizer = torch.optim.AdamW(ours.parameters(), lr=1e-3)
    QKLRMultiplier(ours, optimizer, 1.0)
    steps(ours, optimizer)
    steps(plain, torch.optim.AdamW(plain.parameters(), lr=1e-3))
    for ours_, plain_ in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours_, plain_, rtol=0, atol=1e-7)


def test_rows_are_views_of_queries_and_keys():
    made = model()
    rows = query_key_rows(made)
    assert [tuple(part.shape) for part in rows] == [(32, 32), (32,)] * 4
    rows[2].zero_()
    weight = made.layers[0].attn.qkv.weight
    assert not weight[32:64].any()
    assert weight[:32].any()
    assert weight[64:].any()


def test_frozen_projections_are_refused():
    made = model().requires_grad_(False)
    with pytest.raises(ValueError, match="qk_lr_multiplier is not 1 but no weight"):
        query_key_rows(made)


def test_vision_transformers_have_them_too():
    from harope.models.vit import ViTConfig, create_vit

    config = ViTConfig(depth=1, width=32, num_heads=2, patch_size=4, num_classes=3)
    vit = create_vit(replace(config, input_size=(8, 8)))
    assert [tuple(part.shape) for part in query_key_rows(vit)] == [(32, 32), (32,)] * 2

"""Arms: the encodings and the baseline's controls."""

import pytest
import torch

from compare_support import DIGITS, SCENES, smoke
from harope.compare.arms import (
    encoding_arm,
    has_basis,
    projects_freely,
    rate_arms,
    ratio_for,
    wide_arm,
)
from harope.training.registry import create_task


def model_of(config):
    return create_task(config, torch.device("cpu")).model


def trained(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_an_encoding_changes_itself_and_the_seed_alone():
    config = encoding_arm("mixed").config(SCENES, 7)
    assert (config.model.encoding, config.seed) == ("mixed", 7)
    assert config.model.width == SCENES.model.width
    assert config.optimizer == SCENES.optimizer


@pytest.mark.parametrize("base", [SCENES, DIGITS], ids=["dit", "vit"])
def test_a_wider_baseline_has_the_parameters_asked_for_to_half_a_channel(base):
    model = model_of(encoding_arm("axial").config(base, 0))
    per_channel = len(model.blocks) * (2 * 32 + 1)
    for extra in (per_channel, 10 * per_channel + per_channel // 3):
        arm = wide_arm(base, "axial", model, extra)
        gained = trained(model_of(arm.config(base, 0))) - trained(model)
        assert abs(gained - extra) <= per_channel / 2
        assert gained > 0


def test_less_than_half_a_channel_is_no_control():
    model = model_of(encoding_arm("axial").config(SCENES, 0))
    assert wide_arm(SCENES, "axial", model, 1) is None


def test_a_model_without_a_ratio_cannot_be_widened(tmp_path):
    base = smoke("scenes-mmdit", tmp_path)
    assert wide_arm(base, "axial", model_of(base), 10_000) is None


@pytest.mark.parametrize("width", [32, 384, 1152, 1000])
def test_ratios_give_exactly_the_channels_they_were_made_for(width):
    for hidden in range(4 * width, 4 * width + 300):
        assert int(width * ratio_for(width, hidden)) == hidden


def test_rates_are_factors_on_queries_and_keys():
    slow, fast = rate_arms("axial", (0.5, 4.0))
    assert slow.config(SCENES, 0).optimizer.query_key_rate == 0.5
    assert fast.config(SCENES, 0).optimizer.query_key_rate == 4.0
    assert slow.folder != fast.folder


def test_a_basis_is_what_maps_queries_and_keys():
    assert has_basis(SCENES, "harope")
    assert not has_basis(SCENES, "axial")
    assert not has_basis(SCENES, "ape")


def test_norms_and_frozen_weights_stand_in_the_way_of_another_rate(tmp_path):
    assert projects_freely(model_of(SCENES))
    assert not projects_freely(model_of(SCENES).requires_grad_(False))
    assert not projects_freely(model_of(smoke("flux-lora", tmp_path)))

"""Arms: the encodings and the baseline's controls."""

import pytest
import torch

from harope.lab.experiments.compare.arms import (
    basis_reparametrises_projections,
    group_arms,
    has_basis,
    lr_controls,
    mlp_ratio_for,
    parse_arm,
    resolved_config,
    wide_control,
)
from harope.lab.training.tasks import create_task
from support.compare import DIGITS, SCENES, smoke


def model_of(config):
    return create_task(config, torch.device("cpu")).model


def trained(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_an_encoding_changes_itself_and_the_seed_alone():
    config = parse_arm("mixed", SCENES).config(SCENES, 7)
    assert (config.model.encoding, config.seed) == ("mixed", 7)
    assert config.model.width == SCENES.model.width
    assert config.optimizer == SCENES.optimizer


@pytest.mark.parametrize("base", [SCENES, DIGITS], ids=["dit", "vit"])
def test_a_wider_baseline_has_the_parameters_asked_for_to_half_a_channel(base):
    model = model_of(parse_arm("axial", base).config(base, 0))
    per_channel = len(model.blocks) * (2 * 32 + 1)
    for extra in (per_channel, 10 * per_channel + per_channel // 3):
        arm = wide_control(base, parse_arm("axial", base), model, extra)
        gained = trained(model_of(arm.config(base, 0))) - trained(model)
        assert abs(gained - extra) <= per_channel / 2
        assert gained > 0


def test_less_than_half_a_channel_is_no_control():
    model = model_of(parse_arm("axial", SCENES).config(SCENES, 0))
    assert wide_control(SCENES, parse_arm("axial", SCENES), model, 1) is None


def test_a_model_without_a_ratio_cannot_be_widened(tmp_path):
    base = smoke("scenes-mmdit", tmp_path)
    assert wide_control(base, parse_arm("axial", base), model_of(base), 10_000) is None


@pytest.mark.parametrize("width", [32, 384, 1152, 1000])
def test_ratios_give_exactly_the_channels_they_were_made_for(width):
    for hidden in range(4 * width, 4 * width + 300):
        assert int(width * mlp_ratio_for(width, hidden)) == hidden


def test_rates_are_factors_on_queries_and_keys():
    slow, fast = lr_controls(parse_arm("axial", SCENES), (0.5, 4.0))
    assert slow.config(SCENES, 0).optimizer.qk_lr_multiplier == 0.5
    assert fast.config(SCENES, 0).optimizer.qk_lr_multiplier == 4.0
    assert slow.folder != fast.folder


def test_a_basis_is_what_maps_queries_and_keys():
    for name, expected in (("harope", True), ("axial", False), ("ape", False)):
        assert has_basis(parse_arm(name, SCENES).config(SCENES, 0)) == expected


def test_norms_and_frozen_weights_stand_in_the_way_of_another_rate(tmp_path):
    assert basis_reparametrises_projections(model_of(SCENES))
    assert not basis_reparametrises_projections(model_of(SCENES).requires_grad_(False))
    assert not basis_reparametrises_projections(model_of(smoke("flux-lora", tmp_path)))


# --- how arms are written


def test_options_of_the_encoding_need_no_path_and_fields_of_the_run_do():
    arm = parse_arm("harope:per_head=false,theta=100,model.qk_norm=true,lr=0.001", SCENES)
    config = arm.config(SCENES, 3)
    assert config.model.encoding_options == {"per_head": False, "theta": 100}
    assert config.model.qk_norm
    assert config.optimizer.lr == 0.001
    assert arm.folder == "harope-per_head-false-theta-100-model.qk_norm-true-lr-0.001"


def test_values_may_be_lists():
    config = parse_arm("axial:axes_dim=[12,4],theta=9", SCENES).config(SCENES, 0)
    assert config.model.encoding_options == {"axes_dim": (12, 4), "theta": 9}


def test_arms_with_the_same_settings_outside_the_encoding_form_a_group():
    texts = ("axial", "axial:lr=0.01", "harope:basis=free", "harope:per_head=false,lr=0.01")
    groups = group_arms([parse_arm(text, SCENES) for text in texts])
    assert [[arm.name for arm in group] for group in groups] == [
        ["axial", "harope:basis=free"],
        ["axial:lr=0.01", "harope:per_head=false,lr=0.01"],
    ]


def test_controls_keep_the_settings_of_their_baseline():
    axial = parse_arm("axial:lr=0.01", SCENES)
    wide = wide_control(SCENES, axial, model_of(SCENES), 10_000)
    (rate,) = lr_controls(axial, (2.0,))
    assert wide.config(SCENES, 0).optimizer.lr == rate.config(SCENES, 0).optimizer.lr == 0.01
    assert wide.group == rate.group == axial.group


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("harope", "harope:pairing=inverse"),
        ("harope:pairing=same", "harope-v1"),
        ("axial:basis=orthogonal,per_head=false", "rethinking"),
        ("axial", "axial:model.qk_norm=false"),
    ],
)
def test_arms_are_the_same_whatever_they_are_called(first, second):
    mine, theirs = (resolved_config(parse_arm(text, SCENES), SCENES) for text in (first, second))
    assert mine == theirs
    assert mine != resolved_config(parse_arm("mixed", SCENES), SCENES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("haropo", "arm 'haropo': .*did you mean 'harope'"),
        ("harope:per_haed=false", "or the encoding's option 'per_head'?"),
        ("harope:per_head", "'per_head' is not OPTION=VALUE"),
        ("axial:per_head=false", "per_head has no effect with basis 'identity'"),
        ("harope:model.depth=0", "depth 0 must be at least 1"),
        ("", "encoding '' is unknown"),
    ],
)
def test_what_is_no_arm_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_arm(text, SCENES)

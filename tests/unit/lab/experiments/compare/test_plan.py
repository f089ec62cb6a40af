"""Plans: all arms, their sizes, and that runs of a seed are paired."""

import pytest
import torch

from harope.lab.experiments.compare.plan import CompareConfig, plan_comparison, quick_config
from harope.lab.training.tasks import create_task
from support.compare import SCENES, smoke


def config(**changes):
    given = {"arms": ("axial", "harope"), "seeds": (0, 1), "rates": (0.5, 2.0)} | changes
    return CompareConfig(**given)


def test_the_baseline_comes_first_then_others_and_controls():
    plan = plan_comparison(config(arms=("axial", "harope", "ape")), SCENES)
    kinds = [arm.kind for arm in plan.arms]
    assert kinds == ["encoding"] * 3 + ["wide"] + ["rate"] * 2
    assert [arm.name for arm in plan.arms[:3]] == ["axial", "harope", "ape"]
    assert set(plan.parameters) == {arm.name for arm in plan.arms}
    assert plan.wide_controls == {"harope": plan.arms[3].name}
    # 2 layers, 2 heads, a matrix of 16 x 16 shared by queries and keys.
    assert plan.parameters["harope"] - plan.parameters["axial"] == 2 * 2 * 16 * 16
    assert plan.parameters["ape"] == plan.parameters["axial"]


def test_controls_can_be_left_out():
    plan = plan_comparison(config(wide=False, rates=()), SCENES)
    assert [arm.name for arm in plan.arms] == ["axial", "harope"]
    assert plan.notes == ()


def test_encodings_without_a_basis_need_no_other_rates():
    plan = plan_comparison(config(arms=("axial", "none")), SCENES)
    assert [arm.kind for arm in plan.arms] == ["encoding"] * 2


def test_controls_that_cannot_be_made_are_noted(tmp_path):
    plan = plan_comparison(config(), smoke("flux-lora", tmp_path))
    assert len(plan.arms) == 2
    assert len(plan.notes) == 2
    assert "cannot be widened" in plan.notes[0]
    assert "or followed by a norm" in plan.notes[1]


def test_an_unknown_encoding_is_refused_before_anything_trains():
    with pytest.raises(ValueError, match="haropo"):
        plan_comparison(config(arms=("axial", "haropo")), SCENES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ("axial",)}, "arms .* needs at least 2"),
        ({"arms": ("axial", "axial")}, "contains duplicates"),
        ({"seeds": (0,)}, "seeds .* needs at least 2"),
        ({"seeds": (1, 1)}, "contains duplicates"),
        ({"rates": (1.0,)}, "must be positive and not 1"),
        ({"rates": (-2.0,)}, "must be positive and not 1"),
        ({"workers": 0}, "workers 0"),
        ({"nice": -1}, "nice -1 must be in the range 0 to 19"),
        ({"nice": 20}, "nice 20 must be in the range 0 to 19"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        config(**changes)


def task_of(arm, seed, base=SCENES):
    chosen = arm.config(base, seed)
    torch.manual_seed(chosen.seed)
    return create_task(chosen, torch.device("cpu"))


@pytest.mark.parametrize("recipe", ["scenes-dit", "digits-vit", "scenes-mmdit"])
def test_runs_of_a_seed_start_from_the_same_weights_and_see_the_same_data(recipe, tmp_path):
    names = ("axial", "harope", "mixed", "ape", "string", "none")
    base = smoke(recipe, tmp_path)
    plan = plan_comparison(config(arms=names, wide=False), base)
    first, *others = [task_of(arm, 3, base) for arm in plan.arms]
    state, drawn = first.model.state_dict(), first.source.samples(range(4))
    for task in others:
        theirs = task.model.state_dict()
        shared = [key for key in state if "harope" not in key and "pos_embed" not in key]
        assert len(shared) > 20
        assert all(torch.equal(state[key], theirs[key]) for key in shared)
        for mine, other in zip(drawn, task.source.samples(range(4)), strict=True):
            assert torch.equal(mine, other)


def test_runs_of_other_seeds_start_elsewhere():
    arm = plan_comparison(config(), SCENES).arms[0]
    first, second = task_of(arm, 0).model, task_of(arm, 1).model
    assert not torch.equal(first.x_embedder.proj.weight, second.x_embedder.proj.weight)


def test_quick_is_a_sixteenth_of_the_steps_and_half_the_batch():
    from harope.lab.recipes.scenes import scenes_dit

    full = scenes_dit()
    quick = quick_config(full)
    assert quick.steps == full.steps // 16
    assert quick.batch_size == full.batch_size // 2
    assert quick.optimizer.warmup_steps == full.optimizer.warmup_steps // 16
    assert quick.model == full.model


# --- several baselines


def test_every_group_has_its_own_controls_where_they_can_be_made():
    arms = ("axial", "harope", "axial:model.qk_norm=true", "harope:model.qk_norm=true")
    plan = plan_comparison(config(arms=arms), SCENES)
    names = [arm.name for arm in plan.arms if arm.kind == "wide"]
    assert names == ["axial (MLP 136)", "axial:model.qk_norm=true (MLP 136)"]
    assert plan.wide_controls == dict(zip(arms[1::2], names, strict=True))
    assert [arm.kind for arm in plan.arms].count("rate") == 2
    (note,) = plan.notes
    assert "for axial:model.qk_norm=true: its query and key projections are frozen" in note


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        (
            ("axial", "harope", "harope-v1:lr=0.1"),
            "'harope-v1:lr=0.1' has no baseline.*'axial:lr=0",
        ),
        (("axial:lr=0.1", "harope"), "'axial:lr=0.1' has no baseline"),
        (
            ("axial", "harope-v1", "harope:pairing=same"),
            "'harope-v1' and 'harope:pairing=same' are",
        ),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(arms, words):
    with pytest.raises(ValueError, match=words):
        plan_comparison(config(arms=arms), SCENES)

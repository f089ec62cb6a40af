import json
from dataclasses import replace
from importlib.resources import files

import pytest

from harope.lab.recipes import RECIPES, get_recipe
from harope.lab.training import ClassifyConfig, OptimizerConfig, TrainConfig
from harope.lab.training.serialization import flat, from_dict, from_json, override, to_dict


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name):
    config = RECIPES[name].config()
    assert from_dict(to_dict(config)) == config


def test_text_is_read_as_the_type_of_the_field():
    config = override(
        get_recipe("scenes-dit").config(),
        {"steps": "7", "lr": "1e-2", "compile": "true", "clip-norm": "null", "encoding": "axial"},
    )
    assert (config.steps, config.optimizer.lr, config.compile) == (7, 0.01, True)
    assert config.optimizer.clip_norm is None
    assert config.model.encoding == "axial"


def test_encoding_options_are_reached_by_their_own_names():
    config = override(get_recipe("scenes-dit").config(), {"encoding_options.theta": "100.0"})
    assert config.model.encoding_options == {"theta": 100.0}


def test_naming_another_kind_of_data_starts_that_part_anew():
    config = override(
        get_recipe("digits-dit").config(),
        {"data.kind": "scenes", "data.image_size": "16", "in_channels": "3", "num_classes": "180"},
    )
    assert to_dict(config)["data"] == {"kind": "scenes", "image_size": 16}


def test_another_kind_of_data_keeps_the_size_of_the_images():
    changes = {"data.kind": "folder", "data.root": "x"}
    config = override(get_recipe("scenes-dit").config(), changes)
    assert (config.data.image_size, config.data.random_flip) == (32, True)
    # Nothing else is kept: a folder of one kind of data is none of another.
    config = override(get_recipe("fashion-dit").config(), {"data.kind": "folder", "data.root": "x"})
    assert config.data.image_size == 256


def test_later_changes_take_precedence_however_they_are_named():
    config = get_recipe("scenes-dit").config()
    changed = override(config, {"optimizer.lr": 0.5, "steps": 7}, {"lr": "0.25"})
    assert (changed.optimizer.lr, changed.steps) == (0.25, 7)


@pytest.mark.parametrize("text", ["0.8,0.9", "0.8, 0.9", "[0.8, 0.9]"])
def test_lists_are_written_with_commas_or_as_json(text):
    config = override(get_recipe("scenes-dit").config(), {"betas": text})
    assert config.optimizer.betas == (0.8, 0.9)


def test_none_is_an_empty_list_where_a_list_is_needed():
    config = get_recipe("scenes-dit").config()
    assert override(config, {"report_to": "none"}).report_to == ()


def test_a_list_of_one_text_needs_no_brackets():
    config = override(get_recipe("scenes-mmdit").config(), {"prompts": "a red circle"})
    assert config.prompts == ("a red circle",)


@pytest.mark.parametrize("text", ["true", "False", True])
def test_switches_are_no_numbers(text):
    with pytest.raises(ValueError, match=r"steps: .*integer"):
        override(get_recipe("scenes-dit").config(), {"steps": text})


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [("per_head", "no", False), ("theta", "100", 100), ("axes_dim", "8,24", (8, 24))],
)
def test_options_of_encodings_are_written_like_fields(option, text, value):
    config = override(get_recipe("scenes-dit").config(), {f"encoding_options.{option}": text})
    assert config.model.encoding_options == {option: value}


def test_unknown_fields_are_answered_with_the_nearest():
    config = get_recipe("scenes-dit").config()
    with pytest.raises(ValueError, match=r"'batchsize' is unknown: did you mean 'batch_size'\?"):
        override(config, {"batchsize": "8"})
    with pytest.raises(
        ValueError, match=r"'data\.image_sizes' is unknown: did you mean 'data\.image_size'\?"
    ):
        override(config, {"data.image_sizes": "8"})


def test_an_ambiguous_name_lists_the_paths():
    with pytest.raises(ValueError, match=r"'kind' is ambiguous: use one of data.kind, diffusion"):
        override(get_recipe("scenes-dit").config(), {"kind": "flow"})


def test_a_wrong_value_is_named_with_its_field():
    with pytest.raises(ValueError, match=r"batch_size: .*integer.*'many'"):
        override(get_recipe("scenes-dit").config(), {"batch_size": "many"})


def test_paths_name_every_leaf_once():
    paths = list(flat(to_dict(get_recipe("scenes-dit").config())))
    assert len(paths) == len(set(paths))
    assert {"steps", "model.encoding", "optimizer.lr", "data.image_size"} <= set(paths)


def test_settings_that_do_not_go_together_name_both():
    config = get_recipe("scenes-dit").config()
    with pytest.raises(ValueError, match="batch_size 64 is not a multiple of accumulation 3"):
        replace(config, accumulation=3)
    with pytest.raises(ValueError, match="learned_variance is True but diffusion 'flow' needs 3"):
        replace(config, model=replace(config.model, learned_variance=True))


def test_the_rate_warms_up_stays_and_decays_linearly():
    optimizer = OptimizerConfig(lr=0.5, warmup_steps=100, decay=0.2)
    rates = [optimizer.rate(step, 1000) / 0.5 for step in (0, 49, 99, 500, 800, 900, 999)]
    assert rates == pytest.approx([0.01, 0.5, 1, 1, 1, 0.5, 0.005])


def test_without_decay_the_rate_stays():
    optimizer = OptimizerConfig(lr=0.5)
    assert {optimizer.rate(step, 10) for step in range(10)} == {0.5}


def test_a_cosine_falls_from_the_full_rate_to_nothing_by_half_a_wave():
    optimizer = OptimizerConfig(lr=0.5, decay=0.5, decay_shape="cosine")
    rates = [optimizer.rate(step, 1000) / 0.5 for step in (0, 500, 750, 1000)]
    assert rates == pytest.approx([1, 1, 0.5, 0])
    assert optimizer.rate(625, 1000) / 0.5 == pytest.approx((1 + 0.5**0.5) / 2)


def test_the_warm_up_starts_from_its_own_rate():
    optimizer = OptimizerConfig(lr=0.5, warmup_steps=100, warmup_lr=0.1)
    rates = [optimizer.rate(step, 1000) for step in (0, 49, 99, 100)]
    assert rates == pytest.approx([0.104, 0.3, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"warmup_lr 1.0 must lie in \[0, lr 0.5\]"):
        replace(optimizer, warmup_lr=1.0)


def test_json_without_a_task_is_class_conditional_diffusion():
    values = to_dict(get_recipe("scenes-dit").config())
    assert "task" not in values
    assert isinstance(from_dict(values), TrainConfig)


def test_json_with_a_task_is_that_tasks_configuration():
    values = to_dict(get_recipe("digits-vit").config())
    assert values["task"] == "classification"
    assert isinstance(from_dict(values), ClassifyConfig)
    with pytest.raises(ValueError, match=r"task 'classify' is unknown: use one of class-cond"):
        from_dict(values | {"task": "classify"})


@pytest.mark.parametrize("encoding", ["harope", "axial"])
def test_released_configurations_still_load(encoding):
    path = files("harope") / "lab" / "checkpoints" / f"scenes-dit-{encoding}" / "train.json"
    values = json.loads(path.read_text())
    found = flat(to_dict(from_dict(values)))
    # Fields that came later have their defaults.
    assert {name: found[name] for name in flat(values)} == flat(values)


def test_the_first_task_may_be_named():
    values = to_dict(get_recipe("scenes-dit").config())
    assert from_dict({"task": "class-conditional", **values}) == from_dict(values)


def test_the_old_name_of_the_query_and_key_multiplier_is_read_from_files():
    values = to_dict(get_recipe("scenes-dit").config())
    del values["optimizer"]["qk_lr_multiplier"]
    values["optimizer"]["query_key_rate"] = 2.0
    assert from_json(values).optimizer.qk_lr_multiplier == 2.0


@pytest.mark.parametrize("name", ["optimizer.query_key_rate", "optimizer.query-key-rate"])
def test_the_old_name_is_answered_with_the_new_one(name):
    with pytest.raises(ValueError, match=r"has a new name: use 'optimizer\.qk_lr_multiplier'"):
        override(get_recipe("scenes-dit").config(), {name: "2"})
    with pytest.raises(ValueError, match=r"has a new name: use 'qk_lr_multiplier'"):
        override(get_recipe("scenes-dit").config(), {"query_key_rate": "2"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": []}, r"model: .*got \[\]"),
        ({"model": {"encoding": "axial", "encoding_options": [1]}}, r"model\.depth is missing"),
        ({"optimizer": None}, r"optimizer: .*got None"),
        ({"steps": None}, r"steps: .*got None"),
        ({"data": {"kind": "scene"}}, r"data: .*'scene'"),
        ({"task": []}, r"task '\[\]' is unknown"),
        ({"optimizer": {"learning_rate": 1.0}}, r"'optimizer\.learning_rate' is unknown"),
        ({"stepz": 3}, r"'stepz' is unknown: did you mean 'steps'\?"),
        ({"optimizer": {"lr": -1.0}}, r"optimizer: lr -1\.0 must be positive"),
    ],
)
def test_damaged_values_are_refused_with_their_field(changes, message):
    values = to_dict(get_recipe("scenes-dit").config()) | changes
    with pytest.raises(ValueError, match=message):
        from_json(values)


def test_text_that_reads_as_a_number_is_text_where_the_field_takes_text():
    config = override(
        get_recipe("digits-dit").config(),
        {"data.kind": "folder", "data.root": "2024", "data.image_size": "32"},
    )
    assert config.data.root == "2024"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.kind": "folders"}, r"data\.kind 'folders' is unknown: did you mean 'folder'"),
        ({"data.kind": "folder"}, r"data\.(root|image_size) is missing: 'folder' needs it"),
        (
            {"data.kind": "folder", "data.rooot": "x"},
            r"'data\.rooot' is unknown: did you mean 'data\.root'",
        ),
        ({"data.kind": "scenes", "data.image_size": "wide"}, r"data\.image_size: .*got 'wide'"),
        ({"lr": "-1"}, r"^optimizer: lr -1\.0 must be positive"),
        ({"accumulation": "7"}, r"^batch_size \d+ is not a multiple of accumulation 7"),
        (
            {"encoding_options.theta": "1", "model.encoding_options": "{}"},
            r"'model\.encoding_options' and .*theta' are both given",
        ),
    ],
)
def test_overrides_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        override(get_recipe("digits-dit").config(), changes)


def test_the_same_kind_keeps_the_other_fields_of_its_part():
    config = get_recipe("digits-dit").config()
    assert override(config, {"data.kind": config.data.kind}) == config
    assert override(config, {}) == config


def test_values_that_fit_only_together_are_replaced_together():
    config = override(
        get_recipe("scenes-dit").config(),
        {"diffusion.kind": "ddpm", "learned_variance": "true", "sampling.sampler": "ancestral"},
    )
    assert config.model.learned_variance
    assert config.diffusion.kind == "ddpm"


def test_a_part_that_is_none_is_given_by_its_kind():
    config = get_recipe("digits-vit").config()
    assert config.held_out is None
    fields = {"held_out.kind": "folder", "held_out.root": "photos", "held_out.image_size": "8"}
    held_out = override(config, fields).held_out
    assert (held_out.kind, held_out.root, held_out.image_size) == ("folder", "photos", 8)
    assert override(override(config, fields), {"held_out": "null"}) == config


def test_fields_of_a_part_that_is_none_need_its_kind():
    config = get_recipe("digits-vit").config()
    with pytest.raises(ValueError, match=r"held_out\.kind is missing: held_out is None, so give"):
        override(config, {"held_out.root": "photos"})

import json
from dataclasses import replace

import pytest

from harope.lab.recipes import get_recipe
from harope.lab.training.run_dir import changed_fields, open_run, read_config


@pytest.fixture
def config():
    return get_recipe("scenes-dit").config()


def test_a_run_remembers_its_configuration(tmp_path, config):
    run = open_run(config, tmp_path / "run")
    assert read_config(run) == config


def test_reporting_fields_may_change_and_are_remembered(tmp_path, config):
    open_run(config, tmp_path / "run")
    longer = replace(config, steps=9000, log_every=7)
    assert read_config(open_run(longer, tmp_path / "run")) == longer


def test_changed_fields_are_described_with_both_values(tmp_path, config):
    assert changed_fields(config, tmp_path / "run") == []
    open_run(config, tmp_path / "run")
    assert changed_fields(config, tmp_path / "run") == []
    longer = replace(config, steps=9000, sampling=replace(config.sampling, guidance=3.0))
    assert changed_fields(longer, tmp_path / "run") == [
        "steps: 9000, was 4600",
        "sampling.guidance: 3.0, was 2.0",
    ]


def test_any_other_field_may_not(tmp_path, config):
    open_run(config, tmp_path / "run")
    other = replace(config, optimizer=replace(config.optimizer, lr=5e-4))
    with pytest.raises(ValueError, match=r"optimizer.lr 0.002, not 0.0005: choose another --out"):
        open_run(other, tmp_path / "run")
    assert read_config(tmp_path / "run") == config


def test_a_run_from_before_a_field_has_its_default(tmp_path, config):
    file = open_run(config, tmp_path / "run") / "config.json"
    values = json.loads(file.read_text())
    assert values["optimizer"].pop("name") == "adamw"
    file.write_text(json.dumps(values))
    assert read_config(open_run(config, tmp_path / "run")) == config


def test_a_damaged_configuration_is_named(tmp_path, config):
    open_run(config, tmp_path / "run")
    (tmp_path / "run/config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is not JSON"):
        open_run(config, tmp_path / "run")


def test_another_number_of_steps_is_refused_once_the_decay_has_begun(tmp_path, config):
    run = open_run(replace(config, steps=1000), tmp_path / "run")
    checkpoints = run / "checkpoints"
    (checkpoints / "step-00000750").mkdir(parents=True)
    open_run(replace(config, steps=2000), run)
    open_run(replace(config, steps=1000), run)
    (checkpoints / "step-00000751").mkdir()
    open_run(replace(config, steps=1000), run)
    with pytest.raises(ValueError, match=r"has taken 751 steps, past step 750, .* steps 1000"):
        open_run(replace(config, steps=2000), run)

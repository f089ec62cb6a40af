"""The pipeline that flux-lora-emoji creates before it starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from harope.lab.recipes import get_recipe


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return get_recipe("flux-lora-emoji")


def test_the_tiny_pipeline_is_created_once(recipe):
    recipe.prepare(recipe.config())
    index = Path(recipe.config().model.pretrained, "model_index.json")
    index.write_text("kept")
    recipe.prepare(recipe.config())
    assert index.read_text() == "kept"


def test_another_pipeline_is_not_created(recipe):
    config = recipe.config()
    recipe.prepare(replace(config, model=replace(config.model, pretrained="flux")))
    assert not list(Path.cwd().iterdir())

from dataclasses import replace

import pytest
import torch

from harope.lab.data.latents.files import LatentsDataConfig
from harope.lab.data.synthetic import make_latent_pair
from harope.lab.recipes import get_recipe
from harope.lab.training.tasks import create_task
from harope.models.dit import DiT
from harope.models.mmdit import create_mmdit
from harope.models.vit import create_vit


def smoke(name, tmp_path, **changes):
    return replace(get_recipe(name).smoke(tmp_path), **changes)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def test_parameter_counts_are_those_of_the_summaries():
    config = get_recipe("folder-dit").config()
    assert count(DiT(replace(config.model, num_classes=10))) == pytest.approx(9.9, abs=0.1)
    config = get_recipe("folder-vit").config()
    model = create_vit(replace(config.model, num_classes=10, input_size=(64, 64)))
    assert count(model) == pytest.approx(2.8, abs=0.1)
    config = get_recipe("captioned-dit").config()
    model = create_mmdit(replace(config.model, input_size=(64, 64)))
    assert count(model) == pytest.approx(14.0, abs=0.1)


@pytest.mark.parametrize("name", ["folder-dit", "folder-vit"])
def test_the_number_of_classes_is_that_of_the_folders(name, tmp_path):
    config = smoke(name, tmp_path)
    assert config.model.num_classes is None
    task = create_task(config, torch.device("cpu"))
    assert task.model_config()["num_classes"] == 5
    assert task.losses(task.model, task.source.samples(range(4)), 0, 0)["loss"].shape == (4,)
    with pytest.raises(ValueError, match="num_classes is 4, but the data has 5 classes"):
        create_task(
            replace(config, model=replace(config.model, num_classes=4)), torch.device("cpu")
        )


def test_a_folder_without_class_folders_is_one_class(tmp_path):
    config = smoke("folder-dit", tmp_path)
    for path in (tmp_path / "data").glob("*/*.png"):
        path.rename(tmp_path / "data" / path.name)
    for folder in (tmp_path / "data").iterdir():
        if folder.is_dir():
            folder.rmdir()
    task = create_task(config, torch.device("cpu"))
    assert task.model.config.num_classes == 1
    with pytest.raises(ValueError, match="data has one class, but a classifier needs at least two"):
        create_task(
            replace(get_recipe("folder-vit").config(), data=replace(config.data, split="train")),
            torch.device("cpu"),
        )


def test_a_classifier_is_tested_on_images_that_it_is_not_trained_on(tmp_path):
    task = create_task(smoke("folder-vit", tmp_path), torch.device("cpu"))
    assert len(task.source) + len(task.held_out) == 40
    assert not {*task.source._files.tolist()} & {*task.held_out._files.tolist()}


def test_data_that_cannot_be_divided_needs_held_out_data():
    config = get_recipe("folder-vit").config()
    scenes = get_recipe("scenes-dit").config().data
    with pytest.raises(ValueError, match="held_out is missing, and data of the kind 'scenes' has"):
        replace(config, data=scenes)
    with pytest.raises(ValueError, match=r"data\.split is 'test', the held-out part: leave it out"):
        replace(config, data=replace(config.data, split="test"))


def test_prompts_are_captions_of_the_data_unless_given(tmp_path):
    config = smoke("captioned-dit", tmp_path)
    task = create_task(config, torch.device("cpu"))
    assert config.prompts == ()
    assert set(task.prompts) <= {task.source._source.captions(index)[0] for index in range(8)}
    assert len(task.prompts) == 8
    given = create_task(replace(config, prompts=("a dragon",)), torch.device("cpu"))
    assert given.prompts == ("a dragon",)


def test_latents_are_trained_on_with_their_own_number_of_classes(tmp_path):
    features, labels = make_latent_pair(tmp_path, num=8, shape=(4, 8, 8), num_classes=3)
    config = get_recipe("folder-dit").smoke_config(tmp_path)
    data = LatentsDataConfig(features=str(features), labels=str(labels))
    model = replace(config.model, in_channels=4, patch_size=2)
    task = create_task(replace(config, data=data, model=model), torch.device("cpu"))
    assert task.model.config.num_classes == 3

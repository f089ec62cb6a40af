import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from harope.lab.data.labelled.digits import DigitsDataset
from harope.lab.data.labelled.folder import FolderDataConfig
from harope.lab.evals.resolutions import resolution_scores
from harope.lab.recipes import get_recipe
from harope.lab.training import train
from harope.models.vit import read_vit
from harope.rope import set_scaling


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    def make(encoding, **changes):
        folder = tmp_path_factory.mktemp("runs") / encoding
        config = get_recipe("digits-vit").smoke(folder)
        config = replace(config, model=replace(config.model, encoding=encoding), **changes)
        train(config, folder, quiet=True)
        return folder

    return make


def test_images_are_resized_and_positions_scaled(make_run):
    run = make_run("axial")
    model, _ = read_vit(run)
    images, labels = DigitsDataset(split="test").items(range(359))
    images = F.interpolate(images, size=(12, 12), mode="bicubic", antialias=True)
    scores = resolution_scores(run, [12], ["extrapolate", "interpolate"])
    for method in ("extrapolate", "interpolate"):
        set_scaling(model, method, sizes=(6, 6), train_sizes=(4, 4))
        with torch.no_grad():
            right = int((model(images).argmax(dim=1) == labels).sum())
        assert scores[method]["12"].successes == right
        assert scores[method]["12"].total == 359


@pytest.mark.parametrize(
    ("encoding", "columns"),
    [
        ("harope", ["extrapolate", "interpolate", "ntk", "yarn"]),
        ("mixed", ["extrapolate", "interpolate"]),
        ("ape-learned", ["unscaled"]),
        ("none", ["unscaled"]),
    ],
)
def test_columns_are_the_methods_that_the_encoding_takes(make_run, encoding, columns):
    scores = resolution_scores(make_run(encoding), [8])
    assert list(scores) == columns
    assert len({score["8"] for score in scores.values()}) == 1


def test_bad_sizes_methods_and_runs_are_named(make_run, tmp_path):
    run = make_run("mixed", seed=1)
    with pytest.raises(ValueError, match="size 7 is not a multiple of the patch size, 2 pixels"):
        resolution_scores(run, [8, 7])
    with pytest.raises(ValueError, match=r"ntk scaling .* use interpolate or extrapolate"):
        resolution_scores(run, [12], ["ntk"])
    train(get_recipe("digits-dit").smoke(tmp_path), tmp_path / "dit", quiet=True)
    with pytest.raises(ValueError, match="trained by digits-dit, which does not classify"):
        resolution_scores(tmp_path / "dit", [8])


def write_classes(root, names, count=6):
    """Images of one grey level per class, the same under every root."""
    for name in names:
        level = 40 * (ord(name) - ord("a"))
        for index in range(count):
            image = Image.fromarray(np.full((8, 8, 3), level + index, np.uint8))
            (root / name).mkdir(parents=True, exist_ok=True)
            image.save(root / name / f"{index}.png")


@pytest.fixture
def folder_run(tmp_path):
    """A run on the classes a, b, c, d of a folder, which tells them apart."""
    write_classes(tmp_path / "train", "abcd")
    data = FolderDataConfig(root=str(tmp_path / "train"), image_size=8, random_flip=False)
    config = get_recipe("digits-vit").smoke(tmp_path)
    model = replace(config.model, num_classes=4, in_channels=3)
    config = replace(config, data=data, held_out=data, model=model, steps=40)
    train(config, tmp_path / "run", quiet=True)
    return tmp_path


def held_out_scores(folder, names):
    write_classes(folder / "held", names)
    path = folder / "run/config.json"
    config = json.loads(path.read_text())
    config["held_out"]["root"] = str(folder / "held")
    path.write_text(json.dumps(config))
    return resolution_scores(folder / "run", [8], ["extrapolate"])["extrapolate"]["8"]


def test_held_out_classes_are_matched_by_name(folder_run):
    (trained,) = resolution_scores(folder_run / "run", [8], ["extrapolate"]).values()
    # The run stores the names.
    shutil.rmtree(folder_run / "train")
    right = {name: resolution_scores_of(folder_run, name) for name in "abcd"}
    assert sum(right.values()) == trained["8"].successes


def resolution_scores_of(folder, name):
    shutil.rmtree(folder / "held", ignore_errors=True)
    missing = ", ".join(other for other in "abcd" if other != name)
    with pytest.warns(UserWarning, match=f"held-out images have no image of 3 classes: {missing}"):
        return held_out_scores(folder, name).successes


def test_a_held_out_class_that_was_not_trained_is_named(folder_run):
    with (
        pytest.warns(UserWarning, match="no image of 3 classes: b, c, d"),
        pytest.raises(ValueError, match="held-out class 'e' is none of the 4 trained classes"),
    ):
        held_out_scores(folder_run, "ae")

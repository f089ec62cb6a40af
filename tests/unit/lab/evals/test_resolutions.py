from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from harope.lab.data.labelled.digits import DigitsDataset
from harope.lab.evals.resolutions import resolution_scores
from harope.lab.recipes import get_recipe
from harope.lab.training import train
from harope.models.vit import read_vit
from harope.rope import set_scaling


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    def make(encoding, **changes):
        config = get_recipe("digits-vit").smoke(None)
        config = replace(config, model=replace(config.model, encoding=encoding), **changes)
        folder = tmp_path_factory.mktemp("runs") / encoding
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

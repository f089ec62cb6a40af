from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from harope.lab.data.labelled.digits import DigitsDataConfig
from harope.lab.data.labelled.folder import FolderDataConfig
from harope.lab.data.labelled.scenes import ScenesDataConfig
from harope.lab.recipes import get_recipe
from harope.lab.training import ClassifyConfig, OptimizerConfig
from harope.lab.training.tasks.classification import Classification
from harope.models.vit import ViTConfig
from harope.rope import encoding_parameters

CONFIG = ClassifyConfig(
    recipe="test",
    model=ViTConfig(depth=2, width=16, num_heads=2, patch_size=2, in_channels=1, num_classes=10),
    data=DigitsDataConfig(split="train"),
    held_out=DigitsDataConfig(split="test"),
    steps=10,
    batch_size=8,
    seed=3,
)


def make(**changes) -> Classification:
    torch.manual_seed(0)
    return Classification(replace(CONFIG, **changes), torch.device("cpu"))


def batch(task):
    return task.source.samples(range(8))


def losses(task, first, last, step=5):
    part = tuple(values[first:last] for values in batch(task))
    return task.losses(task.model, part, step, first)["loss"]


def test_micro_batches_have_the_losses_of_the_complete_batch():
    task = make(model=replace(CONFIG.model, drop_path=0.5))
    task.model.train()
    parts = torch.cat([losses(task, first, first + 2) for first in (0, 2, 4, 6)])
    torch.testing.assert_close(losses(task, 0, 8), parts)


def test_steps_drop_other_paths_and_a_step_is_reproducible():
    task = make(model=replace(CONFIG.model, drop_path=0.5))
    task.model.train()
    assert torch.equal(losses(task, 0, 8), losses(task, 0, 8))
    assert not torch.equal(losses(task, 0, 8), losses(task, 0, 8, step=6))


def test_the_loss_is_the_cross_entropy_against_smoothed_labels():
    task = make(label_smoothing=0.2)
    images, labels = batch(task)
    logs = task.model(images).log_softmax(dim=1)
    expected = -(0.8 * logs.gather(1, labels[:, None])[:, 0] + 0.2 * logs.mean(dim=1))
    torch.testing.assert_close(losses(task, 0, 8), expected)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_is_reproducible_and_changes_neither_the_images_nor_the_generator(kind):
    task = make(**{kind: 0.8})
    images, labels = batch(task)
    kept = images.clone()
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    values = [task.losses(task.model, (images, labels), step, 0)["loss"] for step in (0, 0, 1)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    assert torch.equal(images, kept)
    assert np.array_equal(np.random.get_state()[1], state)


def test_mixing_needs_pairs():
    task = make(mixup=0.8)
    with pytest.raises(ValueError, match="micro-batch, but it has 3: choose a batch_size"):
        losses(task, 0, 3)


def test_a_report_counts_held_out_images(tmp_path):
    task = make()
    task.model.eval()
    metrics = task.report(tmp_path, 4)
    images, labels = task.held_out.items(range(359))
    right = int((task.model(images).argmax(dim=1) == labels).sum())
    assert (metrics["held_out_images"], metrics["top1_right"]) == (359, right)
    assert metrics["top1"] == right / 359
    assert right <= metrics["top5_right"] <= 359


def test_encodings_embeddings_and_the_class_token_are_exempt_from_weight_decay():
    task = make(
        model=replace(CONFIG.model, keep_absolute=True), optimizer=OptimizerConfig(weight_decay=0.1)
    )
    decayed, kept = task.parameter_groups()
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    ids = {id(p) for p in kept["params"]}
    model = task.model
    exempt = [model.cls_token, model.pos_embed, *encoding_parameters(model)]
    assert all(id(parameter) in ids for parameter in exempt)
    assert any(parameter is model.head.weight for parameter in decayed["params"])
    everything = len(decayed["params"]) + len(kept["params"])
    assert everything == len(list(model.parameters()))


def test_the_penalty_is_that_of_all_layers_encodings():
    task = make()
    assert task.regularization() == 0
    with torch.no_grad():
        for block in task.model.blocks:
            block.attn.harope.basis.raw_scale.add_(1.0)
    layers = [block.attn.harope.regularization() for block in task.model.blocks]
    torch.testing.assert_close(task.regularization(), sum(layers))
    assert task.regularization() > 0


def test_held_out_data_with_other_classes_is_refused(tmp_path):
    for split, names in (("train", "ab"), ("same", "ab"), ("other", "bc")):
        for name in names:
            path = tmp_path / split / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(path)
    data, same, other = (
        FolderDataConfig(root=str(tmp_path / split), image_size=8, random_flip=False)
        for split in ("train", "same", "other")
    )
    model = replace(CONFIG.model, in_channels=3, num_classes=2)
    make(data=data, held_out=same, model=model)
    with pytest.raises(ValueError, match="held_out has no class 'a', which data has"):
        make(data=data, held_out=other, model=model)


def test_data_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 8, 8\) does not fit .* model.patch_size 3"):
        make(model=replace(CONFIG.model, patch_size=3))
    with pytest.raises(ValueError, match="num_classes is 7, but the data has 10 classes"):
        make(model=replace(CONFIG.model, num_classes=7))
    with pytest.raises(ValueError, match="held_out is 'scenes', which is infinite"):
        make(held_out=ScenesDataConfig(image_size=8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"label_smoothing": 1.0}, "label_smoothing 1.0"), ({"mixup": -1.0}, "mixup -1.0")],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


def test_the_recipes_follow_the_paper():
    config = get_recipe("imagenet-vit").config()
    optimizer = config.optimizer
    epoch = 1_281_167 / 256
    assert config.steps == pytest.approx(300 * epoch, abs=1)
    assert optimizer.rate(0, config.steps) == pytest.approx(1e-6, rel=0.05)
    assert optimizer.rate(round(5 * epoch) - 1, config.steps) == pytest.approx(5e-4, rel=1e-2)


def test_missing_held_out_data_is_said_to_be_that(tmp_path):
    with pytest.raises(
        ValueError, match=r"held_out: folder \S+ does not exist.* held_out\.root, or"
    ):
        make(held_out=FolderDataConfig(root=str(tmp_path / "val"), image_size=8))


def test_without_held_out_data_a_part_of_the_data_is_held_out():
    task = make(held_out=None)
    assert (len(task.source), len(task.held_out)) == (1438, 359)

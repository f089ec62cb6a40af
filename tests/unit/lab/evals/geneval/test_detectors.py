"""Mask2Former's instances: by hand from logits, and a small model in the hub's layout."""

import numpy as np
import pytest
import torch

from harope.lab.evals.geneval.class_names import CLASS_NAMES
from harope.lab.evals.geneval.detectors import Mask2FormerDetector, instances, mask_to_box
from support.judge import save_clip_model, save_mask2former


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_mask2former(tmp_path_factory.mktemp("hub") / "mask2former")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def masks(inside: float) -> torch.Tensor:
    """One mask: the right half of 4 x 4, with this logit inside and its negative outside."""
    mask = torch.full((1, 4, 4), -inside)
    mask[:, :, 2:] = inside
    return mask


def test_scores_are_of_class_times_mask():
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    found = instances(logits, masks(2.0), (4, 4), (4, 4), 0.1)
    # Of two classes, the last is none; inside the mask the probability is sigmoid(2).
    inside = 1 / (1 + np.exp(-2))
    assert [label for label, _, _ in found] == [1, 0]
    assert [score for _, score, _ in found] == pytest.approx([0.5 * inside, 0.2 * inside], rel=1e-5)
    for _, _, mask in found:
        assert mask.tolist() == [[False, False, True, True]] * 4
        assert mask_to_box(mask) == (2, 0, 4, 4)


def test_scores_must_exceed_the_least():
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    assert len(instances(logits, masks(2.0), (4, 4), (4, 4), 0.3)) == 1
    # 0.5 alone would pass, 0.5 sigmoid(1) = 0.37 does not.
    assert instances(logits, masks(1.0), (4, 4), (4, 4), 0.4) == []


def test_masks_are_brought_to_the_pictures_size():
    logits = torch.tensor([[0.1, 0.8, 0.1]]).log()
    ((_, _, mask),) = instances(logits, masks(5.0), (8, 8), (12, 20), 0.5)
    assert mask.shape == (12, 20)
    assert mask_to_box(mask) == (10, 0, 20, 12)


def test_a_query_without_a_pixel_is_no_instance():
    logits = torch.tensor([[0.1, 0.8, 0.1]]).log()
    assert instances(logits, torch.full((1, 4, 4), -3.0), (4, 4), (4, 4), 0.0) == []


def test_a_box_ends_outside_its_mask():
    mask = np.zeros((5, 6), bool)
    mask[1, 2] = mask[3, 4] = True
    assert mask_to_box(mask) == (2.0, 1.0, 5.0, 4.0)


def test_a_model_in_a_folder_finds_instances_in_pictures_of_any_size(folder):
    detector = Mask2FormerDetector(folder)
    images = [noise(40, 50), noise(40, 50, 1), noise(48, 32)]
    found = detector(images, 0.0)
    assert [len(objects) > 0 for objects in found] == [True] * 3
    for image, objects in zip(images, found, strict=True):
        assert {one.name for one in objects} <= set(CLASS_NAMES)
        assert {one.mask.shape for one in objects} == {image.shape[:2]}
    (alone,) = detector(images[1:2], 0.0)
    scores = [[one.score for one in objects] for objects in (alone, found[1])]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_the_model_that_was_used_is_named(folder):
    info = Mask2FormerDetector(folder).info
    assert (info.folder, info.kind) == ("mask2former", "Mask2FormerForUniversalSegmentation")
    assert info.stands_for == "Mask2Former swin-s of mmdetection"
    assert len(info.weights) == 16


def test_models_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--detector .*nowhere .* it has no config\.json"):
        Mask2FormerDetector(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"clip holds a model of type 'clip', but takes mask2form"):
        Mask2FormerDetector(save_clip_model(tmp_path / "clip"))
    few = save_mask2former(tmp_path / "few", ["person", "car"])
    with pytest.raises(ValueError, match=r"few has no label for 78 of GenEval's 80 classes"):
        Mask2FormerDetector(few)
    damaged = save_mask2former(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"--detector .*damaged cannot be loaded"):
        Mask2FormerDetector(damaged)
    (few / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json states no model_type"):
        Mask2FormerDetector(few)


def test_weights_that_are_missing_are_not_made_up(tmp_path):
    from safetensors.torch import load_file, save_file

    lacking = save_mask2former(tmp_path / "lacking")
    weights = load_file(lacking / "model.safetensors")
    weights.pop("class_predictor.weight")
    save_file(weights, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"does not contain 1 weights .* class_predictor\.weight"):
        Mask2FormerDetector(lacking)

"""Colours by CLIP: what it is shown, and a small model in the hub's layout."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from harope.lab.evals.geneval.colors import CLIPColors, color_prompts, crop_object
from harope.lab.evals.geneval.rules import COLORS, Detection
from support.judge import save_clip_model, save_mask2former


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_clip_model(tmp_path_factory.mktemp("hub") / "clip")


def noise(height=20, width=24):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_background_of_an_object_is_grey():
    image, mask = noise(), np.zeros((20, 24), bool)
    mask[4:8, 5] = True
    crop = crop_object(image, Detection("dog", 1.0, (5.0, 4.0, 7.0, 8.0), mask))
    np.testing.assert_array_equal(crop[:, 0], image[4:8, 5])
    assert set(crop[:, 1].flat) == {0x99}


def test_without_a_mask_the_box_is_shown():
    image = noise()
    crop = crop_object(image, Detection("dog", 1.0, (1.6, 0.4, 7.0, 8.0)))
    np.testing.assert_array_equal(crop, image[0:8, 2:7])


def test_three_sentences_are_compared():
    assert color_prompts("red", "hot dog") == [
        "a photo of a red hot dog",
        "a photo of a red-colored hot dog",
        "a photo of a red object",
    ]


def test_the_likeliest_colour_is_that_of_the_normalised_means(folder):
    from transformers import CLIPModel, CLIPProcessor

    # More than one batch.
    objects = [Detection("dog", 1.0, (float(n), 2.0, n + 4.0, 18.0)) for n in range(20)]
    found = CLIPColors(folder)(noise(), objects, "dog")
    model, prepare = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    with torch.no_grad():
        rows = []
        for color in COLORS:
            tokens = prepare(text=color_prompts(color, "dog"), return_tensors="pt", padding=True)
            texts = F.normalize(model.text_projection(model.text_model(**tokens).pooler_output))
            rows.append(texts.mean(0) / texts.mean(0).norm())
        crops = [crop_object(noise(), one) for one in objects]
        shown = prepare(images=crops, return_tensors="pt")
        pictures = model.visual_projection(model.vision_model(**shown).pooler_output)
    expected = (pictures @ torch.stack(rows).T).argmax(1)
    assert found == [COLORS[index] for index in expected]
    assert len(set(found)) > 1


def test_the_model_that_was_used_is_named(folder):
    info = CLIPColors(folder).info
    assert (info.folder, info.kind, info.stands_for) == (
        "clip", "CLIPModel", "CLIP ViT-L/14 of open_clip",
    )  # fmt: skip


def test_another_model_is_refused(tmp_path):
    other = save_mask2former(tmp_path / "mask2former")
    with pytest.raises(ValueError, match=r"--clip .* of type 'mask2former', but takes clip"):
        CLIPColors(other)

"""Answers of small models in the hub's layout."""

import numpy as np
import pytest

from harope.lab.evals.dpg.vqa import CHAT_PROMPT, first_word, load_vqa
from support.judge import save_blip, save_clip_model, save_llava

QUESTIONS = ["is there a dog ?", "is there a cat ?", "a dog ?"]


def noise(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 20, 20, 3), dtype=np.uint8)
    return list(images)


@pytest.mark.parametrize(
    ("save", "kind", "prompt"),
    [
        (save_blip, "BlipForQuestionAnswering", None),
        (save_llava, "LlavaForConditionalGeneration", CHAT_PROMPT),
    ],
)
def test_a_model_in_a_folder_answers_alike_in_batches_and_alone(tmp_path, save, kind, prompt):
    vqa = load_vqa(save(tmp_path / "vqa"))
    assert (vqa.info.folder, vqa.info.kind, vqa.info.prompt) == ("vqa", kind, prompt)
    assert vqa.info.stands_for == "mPLUG large of modelscope"
    images = noise(3)
    answers = vqa(images, QUESTIONS)
    assert [vqa([i], [q])[0] for i, q in zip(images, QUESTIONS, strict=True)] == answers


def test_other_models_are_refused_with_those_that_are_taken(tmp_path):
    with pytest.raises(ValueError, match=r"--vqa .* 'clip', but takes blip .* llava \(LLaVA\)"):
        load_vqa(save_clip_model(tmp_path / "clip"))


def test_a_chat_needs_its_template(tmp_path):
    folder = save_llava(tmp_path / "llava")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="has no chat template"):
        load_vqa(folder)


@pytest.mark.parametrize(
    ("text", "word"), [("yes", "yes"), (" Yes, it is.", "yes"), ("No!", "no"), ("  ", "")]
)
def test_the_first_word_counts(text, word):
    assert first_word(text) == word

import pytest
import torch

from harope.lab.evals.scenes import score_classes, score_prompts, with_mean
from harope.lab.metrics.intervals import Proportion
from harope.lab.scenes import (
    Scene,
    Shape,
    class_prompt,
    encode_class,
    render,
    rng_for,
    sample_prompt,
    sample_scene,
)

RED_CIRCLE = Shape("circle", "red", 0.15, 0.3, 0.3)
BLUE_CIRCLE = Shape("circle", "blue", 0.15, 0.7, 0.7)


def counts(scores) -> dict[str, tuple[int, int]]:
    return {name: (score.successes, score.total) for name, score in scores.items()}


def test_rendered_classes_score_in_full():
    labels = [0, 3, 77, 179]
    rngs = [rng_for(0, label) for label in labels]
    scenes = [sample_scene(class_prompt(n), rng) for n, rng in zip(labels, rngs, strict=True)]
    scores = counts(score_classes(render(scenes, 32), labels))
    assert scores["exact"] == (4, 4)
    assert sum(scores[name][1] for name in ("single_exact", "counting")) == 4


def test_a_wrong_colour_an_extra_object_and_a_wrong_number_count_where_they_should():
    images = render([Scene((BLUE_CIRCLE,)), Scene((RED_CIRCLE, BLUE_CIRCLE))], 32)
    one, two = encode_class("circle", "red", 1), encode_class("circle", "red", 2)
    assert counts(score_classes(images, [one, one])) == {
        "single_object": (2, 2),
        "colors": (1, 2),
        "single_exact": (0, 2),
        "exact": (0, 2),
    }
    assert counts(score_classes(images, [two, two])) == {"counting": (1, 2), "exact": (0, 2)}


def test_prompts_are_scored_by_task():
    prompts = [sample_prompt("position", rng_for(1, index)) for index in range(4)]
    scenes = [sample_scene(p, rng_for(2, index)) for index, p in enumerate(prompts)]
    images = render(scenes, 32)
    assert counts(score_prompts(images, prompts)) == {"position": (4, 4)}
    assert counts(score_prompts(torch.ones_like(images), prompts)) == {"position": (0, 4)}


def test_the_mean_of_tasks_is_taken_where_they_have_as_many_pictures():
    scores = {"position": Proportion(1, 4), "counting": Proportion(3, 4)}
    assert with_mean(scores) == scores | {"mean": Proportion(4, 8)}
    with pytest.raises(ValueError, match=r"tasks have \[2, 4\] images: their mean"):
        with_mean(scores | {"counting": Proportion(1, 2)})


def test_labels_are_checked():
    with pytest.raises(ValueError, match="1 images but 2 labels"):
        score_classes(torch.ones(1, 3, 32, 32), [0, 0])
    with pytest.raises(ValueError, match=r"0 \.\. 179, got 200"):
        score_classes(torch.ones(1, 3, 32, 32), [200])

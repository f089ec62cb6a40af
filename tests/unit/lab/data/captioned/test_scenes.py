from collections import Counter

import pytest
import torch

from harope.lab.data.captioned.scenes import (
    CaptionedScenesData,
    CaptionedScenesSource,
    held_out_prompts,
)
from harope.lab.evals.scenes import score_prompts
from harope.lab.scenes.grammar import TASKS


def test_pictures_show_what_their_prompts_ask_for():
    source = CaptionedScenesSource(48, seed=2)
    images, captions = source.draw(range(60))
    prompts = source.prompts(range(60))
    assert [prompt.caption for prompt in prompts] == captions
    scores = score_prompts((images + 1) / 2, prompts)
    assert set(scores) == set(TASKS)
    # The reader errs now and then, on a picture in a hundred or fewer.
    assert sum(score.successes for score in scores.values()) >= 58


def test_tasks_are_equally_likely():
    counts = Counter(prompt.task for prompt in CaptionedScenesSource().prompts(range(3000)))
    # 500 expected each; five standard deviations of a binomial are 102.
    assert all(abs(counts[task] - 500) < 102 for task in TASKS)


def test_draws_follow_seed_and_number_alone():
    images, captions = CaptionedScenesSource(16, seed=1).draw(range(6))
    again, same = CaptionedScenesSource(16, seed=1).draw([5, 0])
    torch.testing.assert_close(again, images[[5, 0]])
    assert same == [captions[5], captions[0]]
    assert CaptionedScenesSource(16, seed=2).draw(range(6))[1] != captions


def test_held_out_prompts_are_many_of_each_task_and_fixed():
    prompts = held_out_prompts(40, seed=1)
    assert [prompt.task for prompt in prompts] == [task for task in TASKS for _ in range(40)]
    assert held_out_prompts(40, seed=1) == prompts != held_out_prompts(40, seed=2)
    first = [prompt for number, prompt in enumerate(prompts) if number % 40 < 3]
    assert held_out_prompts(3, seed=1) == first


def test_held_out_prompts_are_no_training_stream():
    ours = [prompt for prompt in held_out_prompts(50) if prompt.task == "color_attr"]
    source = CaptionedScenesSource(seed=0)
    theirs = [p for p in source.prompts(range(600)) if p.task == "color_attr"][:50]
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) < 5


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed -1 is negative"):
        CaptionedScenesSource(8, seed=-1)


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="image_size 0 must be at least 1"):
        CaptionedScenesData(image_size=0)
    with pytest.raises(ValueError, match="per_task 0 must be at least 1"):
        held_out_prompts(0)

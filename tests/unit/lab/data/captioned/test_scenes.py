from collections import Counter

import pytest
import torch

from harope.lab.data.captioned.scenes import (
    CaptionedScenesDataConfig,
    CaptionedScenesDataset,
    held_out_prompts,
)
from harope.lab.evals.scenes import score_prompts
from harope.lab.scenes.grammar import TASKS


def test_images_match_their_prompts():
    dataset = CaptionedScenesDataset(48, seed=2)
    images, captions = dataset.samples(range(60))
    prompts = dataset.prompts(range(60))
    assert [prompt.caption for prompt in prompts] == captions
    scores = score_prompts((images + 1) / 2, prompts)
    assert set(scores) == set(TASKS)
    # The reader is wrong for about one image in a hundred or fewer.
    assert sum(score.successes for score in scores.values()) >= 58


def test_tasks_are_equally_likely():
    counts = Counter(prompt.task for prompt in CaptionedScenesDataset().prompts(range(3000)))
    # 500 expected each; five standard deviations of a binomial are 102.
    assert all(abs(counts[task] - 500) < 102 for task in TASKS)


def test_samples_depend_only_on_seed_and_number():
    images, captions = CaptionedScenesDataset(16, seed=1).samples(range(6))
    again, same = CaptionedScenesDataset(16, seed=1).samples([5, 0])
    torch.testing.assert_close(again, images[[5, 0]])
    assert same == [captions[5], captions[0]]
    assert CaptionedScenesDataset(16, seed=2).samples(range(6))[1] != captions


def test_held_out_prompts_are_many_of_each_task_and_fixed():
    prompts = held_out_prompts(40, seed=1)
    assert [prompt.task for prompt in prompts] == [task for task in TASKS for _ in range(40)]
    assert held_out_prompts(40, seed=1) == prompts != held_out_prompts(40, seed=2)
    first = [prompt for number, prompt in enumerate(prompts) if number % 40 < 3]
    assert held_out_prompts(3, seed=1) == first


def test_held_out_prompts_differ_from_the_training_prompts():
    ours = [prompt for prompt in held_out_prompts(50) if prompt.task == "color_attr"]
    dataset = CaptionedScenesDataset(seed=0)
    theirs = [p for p in dataset.prompts(range(600)) if p.task == "color_attr"][:50]
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) < 5


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must be 0 or greater, got -1"):
        CaptionedScenesDataset(8, seed=-1)


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="image_size must be at least 1, got 0"):
        CaptionedScenesDataConfig(image_size=0)
    with pytest.raises(ValueError, match="per_task must be at least 1, got 0"):
        held_out_prompts(0)

import json
from dataclasses import replace

import pytest
import torch

from harope.lab.data import held_out_prompts
from harope.lab.evals.scenes import read_scenes_plan, scenes_requests
from harope.lab.sampling.prompt_folder import FlatFolder, PromptPlan, sample_prompts
from harope.lab.sampling.prompts import PromptRequest


def draw(prompts, seeds):
    return torch.zeros(len(prompts), 4, 4, 3, dtype=torch.uint8)


def test_a_folder_says_what_its_pictures_shall_show(tmp_path):
    plan = PromptPlan(requests=scenes_requests(2), samples_per_prompt=3, first_seed=5)
    sample_prompts(draw, plan, FlatFolder(), tmp_path, made_by={}, quiet=True)
    found, prompts = read_scenes_plan(tmp_path)
    assert replace(found, batch_size=plan.batch_size) == plan
    assert prompts == [prompt for prompt in held_out_prompts(2) for _ in range(3)]


@pytest.mark.parametrize("metadata", [None, json.dumps({"tag": "single_object"}), "[]"])
def test_pictures_of_other_prompts_are_refused(tmp_path, metadata):
    requests = (PromptRequest(name="0", prompt="a cow", metadata=metadata),)
    plan = PromptPlan(requests=requests, samples_per_prompt=1)
    sample_prompts(draw, plan, FlatFolder(), tmp_path, made_by={}, quiet=True)
    with pytest.raises(ValueError, match=r"'a cow', whose metadata do not .* --scenes-prompts"):
        read_scenes_plan(tmp_path)

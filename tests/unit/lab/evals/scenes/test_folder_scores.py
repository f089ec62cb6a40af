import json

import torch

from harope.lab.data.png import to_uint8
from harope.lab.evals.scenes import folder_scores, scenes_requests
from harope.lab.sampling.prompt_folder import PlainLayout, PromptPlan, sample_prompts
from harope.lab.scenes import TASKS, Prompt, Request, render, rng_for, sample_scene


def test_a_folder_of_prompts_is_scored_by_task_with_the_ceiling_beside(tmp_path):
    """The first half of the tasks is drawn as asked for, the second half is left white."""
    requests = scenes_requests(3)
    known = {request.prompt: request for request in requests[:9]}

    def draw(prompts, seeds):
        images = torch.ones(len(prompts), 3, 32, 32)
        for place, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            if seed < 9:
                images[place] = render([sample_scene(asked(known[prompt]), rng_for(1, seed))], 32)
        return to_uint8(images * 2 - 1)

    plan = PromptPlan(requests=requests, samples_per_prompt=1)
    sample_prompts(draw, plan, PlainLayout(), tmp_path, made_by={}, quiet=True)
    scores = folder_scores(tmp_path)
    assert list(scores) == ["samples", "ceiling"]
    assert list(scores["samples"]) == [*TASKS, "mean"]
    counts = [(score.successes, score.total) for score in scores["samples"].values()]
    assert counts == [(3, 3)] * 3 + [(0, 3)] * 3 + [(9, 18)]
    assert {score.rate for score in scores["ceiling"].values()} == {1.0}


def asked(request):
    values = json.loads(request.metadata)
    return Prompt(requests=tuple(Request(**part) for part in values.pop("requests")), **values)

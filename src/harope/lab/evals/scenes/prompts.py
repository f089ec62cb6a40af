"""Prompts of the built-in scenes as requests, which carry what is asked for, and back."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harope._utils.json_files import parse_json, read_json
from harope.lab.data.captioned.scenes import held_out_prompts
from harope.lab.sampling.prompt_folder import MANIFEST_FILE, PromptPlan
from harope.lab.sampling.prompts import PromptRequest
from harope.lab.scenes import COLORS, KINDS, MAX_COUNT, Prompt, Request, encode_class


def scenes_requests(per_task: int) -> tuple[PromptRequest, ...]:
    """`per_task` held-out prompts of each of the six tasks, the same every time."""
    return tuple(
        PromptRequest(
            name=f"{index:06d}", prompt=prompt.caption, metadata=json.dumps(asdict(prompt))
        )
        for index, prompt in enumerate(held_out_prompts(per_task))
    )


def scene_labels(rounds: int) -> tuple[int, ...]:
    """Every single object, then the same with 2 to 6 copies in turn, `rounds` times over."""
    objects = [(kind, color) for kind in KINDS for color in COLORS]
    singles = [encode_class(kind, color, 1) for kind, color in objects]
    # A shift per round lets every object be asked for in different numbers.
    several = [
        [
            encode_class(kind, color, 2 + (index + shift) % (MAX_COUNT - 1))
            for index, (kind, color) in enumerate(objects)
        ]
        for shift in range(rounds)
    ]
    return tuple(label for many in several for label in (*singles, *many))


def read_scenes_plan(folder: Path) -> tuple[PromptPlan, list[Prompt]]:
    """How a folder of scenes' prompts was made, and what each of its pictures shall show.

    Raises ValueError when the folder has pictures of other prompts.
    """
    manifest = read_json(folder / MANIFEST_FILE, dict[str, Any])
    plan = PromptPlan(
        requests=tuple(PromptRequest(**values) for values in manifest["requests"]),
        samples_per_prompt=manifest["samples_per_prompt"],
        first_seed=manifest["first_seed"],
    )
    prompts = [_asked(group[0].request, folder) for group in plan.groups()]
    return plan, [prompt for prompt in prompts for _ in range(plan.samples_per_prompt)]


def _asked(request: PromptRequest, folder: Path) -> Prompt:
    try:
        values = parse_json(request.metadata or "", folder)
        requests = tuple(Request(**part) for part in values.pop("requests"))
        return Prompt(requests=requests, **values)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(
            f"{folder} holds a picture of {request.prompt!r}, which does not say what scene it "
            f"asks for: score pictures of `harope sample --scenes-prompts`"
        ) from None

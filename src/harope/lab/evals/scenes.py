"""The built-in scenes benchmark: prompts, and scores of samples by the rule-based scene reader.

The tasks are those of GenEval. A class-conditional model is conditioned on (kind, colour, count),
which can express three of the six: single_object (the kind), colors (kind and colour) and counting.
"exact" requires the whole condition at once and nothing else in the image.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from harope.lab.data.captioned.scenes import held_out_prompts
from harope.lab.metrics.intervals import Proportion, Scores, count_successes
from harope.lab.reporting.images import read_images
from harope.lab.sampling.class_folder import read_folder
from harope.lab.sampling.prompt_folder import (
    MANIFEST_FILE,
    FlatFolder,
    PromptPlan,
    read_complete_folder,
    read_plan,
)
from harope.lab.sampling.prompts import PromptRequest
from harope.lab.scenes import (
    COLORS,
    KINDS,
    MAX_COUNT,
    NUM_CLASSES,
    Prompt,
    Request,
    Scene,
    class_prompt,
    decode_class,
    encode_class,
    render,
    rng_for,
    sample_scene,
)
from harope.lab.scenes.ceiling import measure_ceiling
from harope.lab.scenes.reader import read_batch
from harope.lab.scenes.score import judge_class, satisfies

CEILING_SEED = 20_000
"""Seed of the rendered scenes that the ceiling is measured on."""


def scenes_requests(per_task: int) -> tuple[PromptRequest, ...]:
    """Create requests for the first held-out prompts of each of the six tasks.

    The metadata of a request is its `Prompt` as JSON; `read_scenes_plan` reads it back.

    Args:
        per_task: Number of prompts per task.

    Returns:
        The requests, named by their index as six digits.
    """
    return tuple(
        PromptRequest(
            name=f"{index:06d}", prompt=prompt.caption, metadata=json.dumps(asdict(prompt))
        )
        for index, prompt in enumerate(held_out_prompts(per_task))
    )


def scene_labels(rounds: int) -> tuple[int, ...]:
    """List class labels, balanced over kinds and colours.

    A round has every (kind, colour) once as a single object and once with a count of 2 to 6.

    Args:
        rounds: Number of rounds. The counts of an object differ between rounds.

    Returns:
        Class labels of all rounds.
    """
    objects = [(kind, color) for kind in KINDS for color in COLORS]
    singles = [encode_class(kind, color, 1) for kind, color in objects]
    # Shifting the counts by one per round gives every object several counts.
    several = [
        [
            encode_class(kind, color, 2 + (index + shift) % (MAX_COUNT - 1))
            for index, (kind, color) in enumerate(objects)
        ]
        for shift in range(rounds)
    ]
    return tuple(label for many in several for label in (*singles, *many))


def read_scenes_plan(folder: Path) -> tuple[PromptPlan, list[Prompt]]:
    """Read the sampling plan of a folder of scenes prompts, and the prompt of each image.

    Args:
        folder: Output of `harope sample --scenes-prompts`.

    Returns:
        The plan, and one prompt per image in the order of the images.

    Raises:
        ValueError: If the images were sampled from other prompts, or the plan is damaged.
    """
    plan = read_plan(folder / MANIFEST_FILE)
    prompts = [_parse_prompt(group[0].request, folder) for group in plan.groups()]
    return plan, [prompt for prompt in prompts for _ in range(plan.samples_per_prompt)]


def folder_scores(folder: Path) -> dict[str, Scores]:
    """Score a folder of samples, and rendered scenes of the same labels or prompts.

    Args:
        folder: Samples of a class-conditional or a text-to-image model trained on scenes.

    Returns:
        The scores of the "samples", and the "ceiling": those of correctly rendered scenes, which
        are below 1 only where the reader errs.

    Raises:
        ValueError: If the images were not sampled from classes or prompts of scenes.
    """
    if (folder / MANIFEST_FILE).is_file():
        return prompt_scores(folder)
    info, paths = read_folder(folder)
    num_classes = info.model.get("num_classes")
    if info.labels is None or num_classes != NUM_CLASSES:
        raise ValueError(
            f"{folder} holds samples of a model with {num_classes} classes, but scenes have "
            f"{NUM_CLASSES}: score samples of a scenes recipe"
        )
    images = read_images(paths)
    return {
        "samples": score_classes(images, info.labels),
        "ceiling": rendered_scores(info.labels, images.shape[-1]),
    }


def prompt_scores(folder: Path) -> dict[str, Scores]:
    """Score a folder of scenes prompts per task.

    Args:
        folder: Samples of `harope sample --scenes-prompts`.

    Returns:
        The scores of the "samples" and of the "ceiling", with their means; see `folder_scores`.

    Raises:
        ValueError: If the folder is incomplete, or its images were not sampled from prompts of
            scenes.
    """
    plan, prompts = read_scenes_plan(folder)
    images = read_images(read_complete_folder(plan, FlatFolder(), folder))
    scenes = [sample_scene(prompt, rng_for(CEILING_SEED, i)) for i, prompt in enumerate(prompts)]
    rendered = render(scenes, images.shape[-1])
    return {
        "samples": with_mean(score_prompts(images, prompts)),
        "ceiling": with_mean(score_prompts(rendered, prompts)),
    }


def rendered_scores(labels: list[int], size: int) -> Scores:
    """Score rendered scenes: the ceiling of any model.

    Args:
        labels: Class of each scene.
        size: Width and height of the images in pixels.

    Returns:
        The scores, as in `score_classes`.
    """
    scenes = [
        sample_scene(class_prompt(label), rng_for(CEILING_SEED, index))
        for index, label in enumerate(labels)
    ]
    return score_classes(render(scenes, size), labels)


def ceiling_scores(size: int, count: int, *, quiet: bool = True) -> dict[str, Scores]:
    """Measure the reader's accuracy on rendered scenes, clean and degraded.

    Args:
        size: Width and height of the images in pixels.
        count: Scenes per task.
        quiet: Whether to hide the progress bar.

    Returns:
        Scores by degradation. "TASK: exact" is the rate of scenes read without any error,
        "TASK: solved" that of scenes whose reading satisfies their prompt.

    Raises:
        ValueError: If `size` or `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count {count} must be at least 1")
    columns: dict[str, Scores] = {}
    for ceiling in measure_ceiling(size, count, CEILING_SEED, quiet=quiet):
        column = columns.setdefault(ceiling.degradation, {})
        column[f"{ceiling.task}: exact"] = Proportion(ceiling.exact, ceiling.total)
        column[f"{ceiling.task}: solved"] = Proportion(ceiling.satisfied, ceiling.total)
    return columns


def score_classes(images: Float[Tensor, "batch 3 size size"], labels: Sequence[int]) -> Scores:
    """Score images against their class labels.

    Args:
        images: Values in [0, 1].
        labels: One class per image.

    Returns:
        Among the images of one object: `single_object` (the kind is right), `colors` (kind and
        colour) and `single_exact` (and nothing else in the image). Among the images of several:
        `counting` (the number of the kind). Among all: `exact` (everything is right).

    Raises:
        ValueError: If there are not as many labels as images, or a label is out of range.
    """
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels: give one label each")
    if min(labels) < 0 or max(labels) >= NUM_CLASSES:
        raise ValueError(
            f"labels must lie in 0 .. {NUM_CLASSES - 1}, got {min(labels)} .. {max(labels)}"
        )
    verdicts: list[tuple[str, bool]] = []
    for scene, label in zip(read_batch(images), labels, strict=True):
        verdicts += _class_verdicts(scene, label)
    return count_successes(verdicts)


def score_prompts(images: Float[Tensor, "batch 3 size size"], prompts: Sequence[Prompt]) -> Scores:
    """Score images against their prompts.

    Args:
        images: Values in [0, 1].
        prompts: One prompt per image.

    Returns:
        Fraction of the images that satisfy their prompt, by task.
    """
    scenes = read_batch(images)
    return count_successes((p.task, satisfies(s, p)) for s, p in zip(scenes, prompts, strict=True))


def with_mean(scores: Scores) -> Scores:
    """Add the mean over the tasks, itself a proportion since all tasks have equally many images.

    Args:
        scores: Scores by task.

    Returns:
        The same scores and "mean".

    Raises:
        ValueError: If the tasks have different numbers of images.
    """
    totals = {score.total for score in scores.values()}
    if len(totals) != 1:
        raise ValueError(
            f"The tasks have {sorted(totals)} images: their mean needs the same number for each"
        )
    successes = sum(score.successes for score in scores.values())
    return {**scores, "mean": Proportion(successes, totals.pop() * len(scores))}


def _class_verdicts(scene: Scene, label: int) -> list[tuple[str, bool]]:
    kind, color, count = decode_class(label)
    exact = judge_class(scene, label).exact
    caption = class_prompt(label).caption
    if count > 1:
        counting = Prompt("counting", caption, (Request(kind, None, count),))
        return [("counting", satisfies(scene, counting)), ("exact", exact)]
    return [
        ("single_object", satisfies(scene, Prompt("single_object", caption, (Request(kind),)))),
        ("colors", satisfies(scene, Prompt("colors", caption, (Request(kind, color),)))),
        ("single_exact", exact),
        ("exact", exact),
    ]


def _parse_prompt(request: PromptRequest, folder: Path) -> Prompt:
    try:
        values = json.loads(request.metadata or "")
        requests = tuple(Request(**part) for part in values.pop("requests"))
        return Prompt(requests=requests, **values)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(
            f"{folder} holds an image of the prompt {request.prompt!r}, whose metadata do not "
            f"describe a scene: score images of `harope sample --scenes-prompts`"
        ) from None

"""Scores of sample folders on scenes, with the reader's ceiling."""

from pathlib import Path

from harope.lab.evals.scenes.prompts import read_scenes_plan
from harope.lab.evals.scenes.scores import score_classes, score_prompts, with_mean
from harope.lab.metrics.intervals import Proportion, Scores
from harope.lab.reporting.images import read_pictures
from harope.lab.sampling.class_folder import read_folder
from harope.lab.sampling.prompt_folder import MANIFEST_FILE as PROMPTS_FILE
from harope.lab.sampling.prompt_folder import FlatFolder, read_complete_folder
from harope.lab.scenes import NUM_CLASSES, class_prompt, render, rng_for, sample_scene
from harope.lab.scenes.ceiling import measure_ceiling

CEILING_SEED = 20_000


def folder_scores(folder: Path) -> dict[str, Scores]:
    """Scores of a folder of samples, and of rendered scenes of the same labels or prompts.

    Raises ValueError when the folder's pictures were not drawn from scenes' classes or prompts.
    """
    if (folder / PROMPTS_FILE).is_file():
        return prompt_scores(folder)
    manifest, pictures = read_folder(folder)
    labels = manifest["labels"]
    if labels is None or manifest["model"]["num_classes"] != NUM_CLASSES:
        raise ValueError(
            f"{folder} holds samples of a model with {manifest['model']['num_classes']} classes, "
            f"but scenes have {NUM_CLASSES}: score samples of a scenes recipe"
        )
    images = read_pictures(pictures)
    return {
        "samples": score_classes(images, labels),
        "ceiling": rendered_scores(labels, images.shape[-1]),
    }


def prompt_scores(folder: Path) -> dict[str, Scores]:
    """Scores per task, and their mean, of a folder of scenes' prompts, with the ceiling beside."""
    plan, prompts = read_scenes_plan(folder)
    images = read_pictures(read_complete_folder(plan, FlatFolder(), folder))
    scenes = [sample_scene(prompt, rng_for(CEILING_SEED, i)) for i, prompt in enumerate(prompts)]
    rendered = render(scenes, images.shape[-1])
    return {
        "samples": with_mean(score_prompts(images, prompts)),
        "ceiling": with_mean(score_prompts(rendered, prompts)),
    }


def rendered_scores(labels: list[int], size: int) -> Scores:
    """What the reader gives rendered scenes of these labels: the ceiling of any model."""
    scenes = [
        sample_scene(class_prompt(label), rng_for(CEILING_SEED, index))
        for index, label in enumerate(labels)
    ]
    return score_classes(render(scenes, size), labels)


def ceiling_scores(size: int, count: int) -> dict[str, Scores]:
    """The reader's accuracy on rendered scenes, clean and degraded, per task and in all.

    "task: exact" counts scenes read without any error, "task: solved" those whose reading
    satisfies their prompt.
    """
    columns: dict[str, Scores] = {}
    for ceiling in measure_ceiling(size, count, CEILING_SEED):
        column = columns.setdefault(ceiling.degradation, {})
        column[f"{ceiling.task}: exact"] = Proportion(ceiling.exact, ceiling.total)
        column[f"{ceiling.task}: solved"] = Proportion(ceiling.satisfied, ceiling.total)
    return columns

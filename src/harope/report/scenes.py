"""Scores of sample folders on scenes, with the reader's ceiling."""

from pathlib import Path

from harope.evaluation.scenes import Scores, score_classes, score_prompts
from harope.generation.folder import read_folder
from harope.report.pictures import read_pictures
from harope.scenes import (
    NUM_CLASSES,
    TASKS,
    class_prompt,
    render,
    rng_for,
    sample_prompt,
    sample_scene,
)

CEILING_SEED = 20_000


def folder_scores(folder: Path) -> dict[str, Scores]:
    """Scores of a folder of class-conditional samples, and of rendered scenes of the same labels.

    Raises ValueError when the folder's model was not conditioned on scenes' classes.
    """
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


def rendered_scores(labels: list[int], size: int) -> Scores:
    """What the reader gives rendered scenes of these labels: the ceiling of any model."""
    scenes = [
        sample_scene(class_prompt(label), rng_for(CEILING_SEED, index))
        for index, label in enumerate(labels)
    ]
    return score_classes(render(scenes, size), labels)


def ceiling_scores(size: int, count: int) -> dict[str, Scores]:
    """The reader's accuracy in the six tasks on rendered scenes."""
    prompts = [
        sample_prompt(task, rng_for(CEILING_SEED, place))
        for task in TASKS
        for place in range(count)
    ]
    rngs = (rng_for(CEILING_SEED + 1, index) for index in range(len(prompts)))
    scenes = [sample_scene(prompt, rng) for prompt, rng in zip(prompts, rngs, strict=True)]
    return {f"ceiling at {size} pixels": score_prompts(render(scenes, size), prompts)}

"""How many generated scenes show what was asked for.

The tasks are GenEval's. A class-conditional model is asked for (kind, colour, count), which three
of the six can express: one object (single_object: its kind; colors: kind and colour) and several
(counting). "exact" asks for everything at once and for nothing else in the picture.
"""

from collections.abc import Iterable, Sequence

from jaxtyping import Float
from torch import Tensor

from harope.lab.metrics.intervals import Proportion, Scores
from harope.lab.scenes import NUM_CLASSES, Prompt, Request, Scene, class_prompt, decode_class
from harope.lab.scenes.reader import read_batch
from harope.lab.scenes.score import judge_class, satisfies


def score_classes(images: Float[Tensor, "batch 3 size size"], labels: Sequence[int]) -> Scores:
    """Scores of pictures in [0, 1] against their class labels.

    single_object, colors: of the pictures that should hold one object, how many hold its kind,
    its kind in its colour. single_exact: and nothing besides. counting: of the others, how many
    hold the right number of the kind. exact: all pictures, everything right.

    Raises ValueError for a label out of range or a different number of labels.
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
    return tally(verdicts)


def score_prompts(images: Float[Tensor, "batch 3 size size"], prompts: Sequence[Prompt]) -> Scores:
    """Scores per task of pictures in [0, 1] against what their prompts ask for."""
    scenes = read_batch(images)
    return tally((p.task, satisfies(s, p)) for s, p in zip(scenes, prompts, strict=True))


def with_mean(scores: Scores) -> Scores:
    """The scores, and their mean: all tasks have as many pictures, so it is a proportion too."""
    totals = {score.total for score in scores.values()}
    if len(totals) != 1:
        raise ValueError(f"tasks have {sorted(totals)} pictures: give all tasks the same number")
    successes = sum(score.successes for score in scores.values())
    return {**scores, "mean": Proportion(successes, totals.pop() * len(scores))}


def tally(verdicts: Iterable[tuple[str, bool]]) -> Scores:
    """Successes and totals by name."""
    counts: dict[str, list[bool]] = {}
    for name, right in verdicts:
        counts.setdefault(name, []).append(right)
    return {name: Proportion(sum(rights), len(rights)) for name, rights in counts.items()}


def _class_verdicts(scene: Scene, label: int) -> list[tuple[str, bool]]:
    kind, color, count = decode_class(label)
    exact = judge_class(scene, label).exact
    if count > 1:
        asked = Prompt("counting", class_prompt(label).caption, (Request(kind, None, count),))
        return [("counting", satisfies(scene, asked)), ("exact", exact)]
    caption = class_prompt(label).caption
    return [
        ("single_object", satisfies(scene, Prompt("single_object", caption, (Request(kind),)))),
        ("colors", satisfies(scene, Prompt("colors", caption, (Request(kind, color),)))),
        ("single_exact", exact),
        ("exact", exact),
    ]

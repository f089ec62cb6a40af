"""GenEval's summary of verdicts, as in `summary_scores.py`, with confidence intervals."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from harope._utils.atomic import write_text_atomic
from harope._utils.json_files import parse_json
from harope._utils.text_files import read_text
from harope.lab.metrics.intervals import Mean, Proportion

TASKS = (
    "single_object", "two_object", "counting", "colors", "position", "color_attr",
)  # fmt: skip
FIELDS = ("filename", "tag", "prompt", "correct", "reason", "metadata", "details")

Record: TypeAlias = dict[str, Any]
"""Verdict on one image: a line of the official `results.jsonl`, with the keys FIELDS."""


@dataclass(frozen=True)
class TaskScore:
    """Score of one task, over images and over prompts."""

    images: Proportion
    """Fraction of correct images."""
    prompts: Mean | None
    """Mean over prompts of that fraction, whose interval is valid because prompts are independent
    while the images of one prompt are not; None for a single prompt."""


@dataclass(frozen=True)
class GenEvalSummary:
    """What GenEval reports: the score of every task, and their mean."""

    tasks: dict[str, TaskScore]
    """Score of each task, by tag."""
    overall: float
    """GenEval score: the mean over tasks."""
    overall_interval: tuple[float, float] | None
    """Welch's 95 % interval over prompts; None if a task has a single prompt."""
    images: Proportion
    """Fraction of correct images."""
    any_image: Proportion
    """Fraction of prompts with at least one correct image."""

    @property
    def prompts(self) -> int:
        """Number of prompts with different metadata."""
        return self.any_image.total

    @property
    def missing_tasks(self) -> tuple[str, ...]:
        """Those of GenEval's six tasks that have no image."""
        return tuple(task for task in TASKS if task not in self.tasks)


def summarise(records: Sequence[Record]) -> GenEvalSummary:
    """Summarise the verdicts on a folder of images.

    Args:
        records: Verdict on each image.

    Returns:
        Rates by task, over images and over prompts.

    Raises:
        ValueError: If there are no records.
    """
    if not records:
        raise ValueError("There are no images to score: pass at least one record")
    tasks: dict[str, dict[str, list[bool]]] = {}
    for record in records:
        prompts = tasks.setdefault(record["tag"], {})
        prompts.setdefault(record["metadata"], []).append(bool(record["correct"]))
    means = [[fmean(rights) for rights in prompts.values()] for prompts in tasks.values()]
    overall = Mean.of_groups(means) if min(map(len, means)) > 1 else None
    scores = {
        name: TaskScore(
            _proportion([right for rights in prompts.values() for right in rights]),
            Mean.of(values) if len(values) > 1 else None,
        )
        for (name, prompts), values in zip(tasks.items(), means, strict=True)
    }
    return GenEvalSummary(
        scores,
        fmean(score.images.rate for score in scores.values()),
        (overall.low, overall.high) if overall else None,
        _proportion([bool(record["correct"]) for record in records]),
        _proportion([any(rights) for prompts in tasks.values() for rights in prompts.values()]),
    )


def read_records(path: Path) -> list[Record]:
    """Read an official `results.jsonl`.

    Args:
        path: The file.

    Returns:
        The verdicts in the order of the lines.

    Raises:
        ValueError: Naming the first line that is not a verdict.
    """
    records = []
    text = read_text(path).rstrip("\n")
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        try:
            record = parse_json(line, "the line")
            texts = record["tag"], record["metadata"]
            if not (all(isinstance(v, str) for v in texts) and record["correct"] in (0, 1)):
                raise ValueError("tag and metadata must be strings and correct a boolean")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} line {number} is not a verdict of GenEval: {error}") from None
        records.append(record)
    return records


def write_records(records: Sequence[Record], path: Path) -> None:
    """Write verdicts as an official `results.jsonl`, atomically.

    Args:
        records: Verdict on each image.
        path: File to write or replace.
    """
    lines = [json.dumps({name: record[name] for name in FIELDS}) + "\n" for record in records]
    write_text_atomic(path, "".join(lines))


def _proportion(rights: Sequence[bool]) -> Proportion:
    return Proportion(sum(rights), len(rights))

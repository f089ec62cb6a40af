"""GenEval's summary of verdicts, as `summary_scores.py` has it, with intervals."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from harope._utils.atomic import write_text_atomic
from harope._utils.json_files import parse_json
from harope.lab.metrics.intervals import Mean, Proportion

TASKS = (
    "single_object", "two_object", "counting", "colors", "position", "color_attr",
)  # fmt: skip
FIELDS = ("filename", "tag", "prompt", "correct", "reason", "metadata", "details")

Record: TypeAlias = dict[str, Any]
"""One picture's line of the official `results.jsonl`, with FIELDS."""


@dataclass(frozen=True)
class TaskScore:
    """Pictures of one task."""

    images: Proportion
    prompts: Mean | None
    """The same score as a mean over prompts, which are independent, as a prompt's pictures are
    not; None for a single prompt."""


@dataclass(frozen=True)
class GenEvalSummary:
    """The official numbers."""

    tasks: dict[str, TaskScore]
    """By tag."""
    overall: float
    """The mean over tasks."""
    overall_interval: tuple[float, float] | None
    """Welch's, over prompts; None where a task has a single one."""
    images: Proportion
    any_image: Proportion
    """Prompts with at least one correct picture."""

    @property
    def prompts(self) -> int:
        """Number of prompts, told apart by what they ask for."""
        return self.any_image.total

    @property
    def lacks(self) -> tuple[str, ...]:
        """Those of GenEval's six tasks that no picture was of."""
        return tuple(task for task in TASKS if task not in self.tasks)


def summarise(records: Sequence[Record]) -> GenEvalSummary:
    """Scores of records in order. Raises ValueError for none."""
    if not records:
        raise ValueError("there is no picture to score")
    tasks: dict[str, dict[str, list[bool]]] = {}
    for record in records:
        prompts = tasks.setdefault(record["tag"], {})
        prompts.setdefault(record["metadata"], []).append(bool(record["correct"]))
    means = [[fmean(rights) for rights in prompts.values()] for prompts in tasks.values()]
    enough = min(map(len, means)) > 1
    whole = Mean.of_groups(means) if enough else None
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
        (whole.low, whole.high) if whole else None,
        _proportion([bool(record["correct"]) for record in records]),
        _proportion([any(rights) for prompts in tasks.values() for rights in prompts.values()]),
    )


def read_records(path: Path) -> list[Record]:
    """An official `results.jsonl`. Raises ValueError naming a line that is none of it."""
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = parse_json(line, "the line")
            needed = record["tag"], record["metadata"]
            if not (all(isinstance(v, str) for v in needed) and record["correct"] in (0, 1)):
                raise ValueError("tag, metadata or correct is of another kind")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} line {number} is no verdict of GenEval: {error}") from None
        records.append(record)
    return records


def write_records(records: Sequence[Record], path: Path) -> None:
    """Write an official `results.jsonl`."""
    lines = [json.dumps({name: record[name] for name in FIELDS}) + "\n" for record in records]
    write_text_atomic(path, "".join(lines))


def _proportion(rights: Sequence[bool]) -> Proportion:
    return Proportion(sum(rights), len(rights))

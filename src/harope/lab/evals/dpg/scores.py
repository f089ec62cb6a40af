"""DPG-Bench's scores (Hu et al. 2024, arXiv 2403.05135) from answers: as scripted, and corrected.

The rules of `dpg_bench/compute_dpg_bench.py` of github.com/TencentQQGYLab/ELLA. A question counts 0
when one that it depends on does; a tile's score is the mean over its questions, a prompt's the mean
over its tiles. Categories count answers as they were given, without regard to dependencies. Two
known faults of the script are told apart:

- categories are of each picture's last tile alone (ELLA#60);
- the table's first row is passed over (ELLA#61). Where another question depends on it, the script
  fails on the picture, and leaves it out without a word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

from harope.lab.evals.dpg.questions import ByItem, Question, as_scripted, by_item
from harope.lab.metrics.intervals import Mean

Answers: TypeAlias = Mapping[int, bool]
"""Whether the answer is yes, by the question's number, for one tile."""


@dataclass(frozen=True)
class DPGScores:
    """Means in [0, 1]; the benchmark states them x 100."""

    prompts: dict[str, float]
    """By item."""
    broad: dict[str, float]
    """By the categories' first words."""
    detailed: dict[str, float]
    """By category."""
    left_out: tuple[str, ...]
    """Items that have pictures but no score."""

    @property
    def score(self) -> float | None:
        """The mean over prompts; None where all are left out."""
        return fmean(self.prompts.values()) if self.prompts else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's, over prompts; None for a single one."""
        if len(self.prompts) < 2:
            return None
        mean = Mean.of(list(self.prompts.values()))
        return mean.low, mean.high


def scripted_scores(
    rows: Sequence[Question], answers: Mapping[str, Sequence[Answers]]
) -> DPGScores:
    """What the official script makes of the answers to each item's tiles."""
    return _scores(as_scripted(rows), answers, last_tile=True)


def corrected_scores(
    rows: Sequence[Question], answers: Mapping[str, Sequence[Answers]]
) -> DPGScores:
    """The same with all rows, and categories over all tiles."""
    return _scores(by_item(rows), answers, last_tile=False)


def tile_score(questions: Mapping[int, Question], answers: Answers) -> float:
    """The mean over a tile's questions, those with a parent that counts 0 being 0.

    Questions are gone through in the order of the rows, so that what was zeroed zeroes on. Raises
    KeyError for a parent that is not among the questions, unless one before it is 0 already.
    """
    scores = {number: answers[number] for number in questions}
    for number, question in questions.items():
        if any(parent != 0 and not scores[parent] for parent in question.parents):
            scores[number] = False
    return sum(scores.values()) / len(scores)


def _scores(
    items: ByItem, answers: Mapping[str, Sequence[Answers]], *, last_tile: bool
) -> DPGScores:
    prompts: dict[str, float] = {}
    left_out: list[str] = []
    categories: dict[str, list[bool]] = {}
    for item, tiles in answers.items():
        questions = items.get(item)
        try:
            if questions is None:
                raise KeyError(item)
            prompts[item] = fmean(tile_score(questions, tile) for tile in tiles)
        except KeyError:
            left_out.append(item)
            continue
        for number, question in questions.items():
            for tile in tiles[-1:] if last_tile else tiles:
                categories.setdefault(question.category, []).append(tile[number])
    broad: dict[str, list[bool]] = {}
    for category, yes in categories.items():
        broad.setdefault(category.split("-")[0].strip(), []).extend(yes)
    return DPGScores(prompts, _means(broad), _means(categories), tuple(left_out))


def _means(groups: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    return {name: fmean(group) for name, group in sorted(groups.items())}

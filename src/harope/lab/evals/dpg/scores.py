"""DPG-Bench's scores (Hu et al. 2024, arXiv 2403.05135) from answers: as scripted, and corrected.

The rules are those of `dpg_bench/compute_dpg_bench.py` of github.com/TencentQQGYLab/ELLA. A
question counts 0 if one that it depends on counts 0. The score of a tile is the mean over its
questions, the score of a prompt the mean over its tiles. Categories count the answers as given,
regardless of dependencies. "As scripted" reproduces two known faults of the script, "corrected"
does not:

- the scores of categories use the last tile of each image only (ELLA#60);
- the first row of the table is skipped (ELLA#61). If another question depends on it, the script
  fails on the image and silently leaves it out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

from harope.lab.evals.dpg.questions import ByItem, Question, as_scripted, by_item
from harope.lab.metrics.intervals import Mean

Answers: TypeAlias = Mapping[int, bool]
"""For one tile, whether the answer is yes, by the number of the question."""

# image, (left, top, right, bottom), question, answer; questions may contain commas.
_LINE = re.compile(r"(?P<image>.*), (?P<tile>\((?:\d+, ){3}\d+\)), (?P<text>.*), (?P<answer>.*)")


@dataclass(frozen=True)
class DPGScores:
    """Scores in [0, 1]; the benchmark reports them times 100."""

    prompts: dict[str, float]
    """Score of each item."""
    broad: dict[str, float]
    """Fraction of yes by broad category, the first word of the detailed one."""
    detailed: dict[str, float]
    """Fraction of yes by detailed category."""
    left_out: tuple[str, ...]
    """Items that have images but no score."""

    @property
    def score(self) -> float | None:
        """Mean over prompts, the DPG-Bench score; None if all are left out."""
        return fmean(self.prompts.values()) if self.prompts else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval over prompts; None for fewer than two."""
        if len(self.prompts) < 2:
            return None
        mean = Mean.of(list(self.prompts.values()))
        return mean.low, mean.high


def scripted_scores(
    rows: Sequence[Question], answers: Mapping[str, Sequence[Answers]]
) -> DPGScores:
    """Compute the scores as the official script does, including its known faults.

    Args:
        rows: All questions.
        answers: Answers to each item's tiles.

    Returns:
        The scores of the script.
    """
    return _scores(as_scripted(rows), answers, last_tile=True)


def corrected_scores(
    rows: Sequence[Question], answers: Mapping[str, Sequence[Answers]]
) -> DPGScores:
    """Compute the scores from all rows, and those of categories from all tiles.

    Args:
        rows: All questions.
        answers: Answers to each item's tiles.

    Returns:
        The corrected scores.
    """
    return _scores(by_item(rows), answers, last_tile=False)


def tile_score(questions: Mapping[int, Question], answers: Answers) -> float:
    """Compute the mean over a tile's questions; those with a parent that counts 0 count 0.

    Questions are processed in the order of the rows, so that a zeroed question zeroes its children.

    Args:
        questions: Questions of the tile's item by number.
        answers: Answers by number of the question.

    Returns:
        The score, in [0, 1].

    Raises:
        KeyError: If an answer is missing, or a parent is not among the questions and no earlier
            parent counts 0.
    """
    scores = {number: answers[number] for number in questions}
    for number, question in questions.items():
        if any(parent != 0 and not scores[parent] for parent in question.parents):
            scores[number] = False
    return sum(scores.values()) / len(scores)


def read_answers(path: Path, rows: Sequence[Question]) -> dict[str, list[Answers]]:
    """Read the answers that the official script wrote to its `*_detail.txt`.

    The script skips the table's first row and stops at an image on which it fails, so answers may
    be missing.

    Args:
        path: The script's file, with lines in any order.
        rows: The questions that the script asked.

    Returns:
        Answers by item and tile.

    Raises:
        ValueError: Naming the first line that is not an answer, or whose question is unknown.
    """
    numbers = _numbers_by_text(rows)
    answers: dict[str, dict[str, dict[int, bool]]] = {}
    for place, line in enumerate(_read_lines(path), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path} line {place} is not an answer, which has the form `image, (tile), "
                f"question, yes`"
            )
        item, text = Path(match["image"]).name.split(".")[0], match["text"].strip()
        if (item, text) not in numbers:
            raise ValueError(f"{path} line {place} asks {text!r} of {item}, which the table lacks")
        tile = answers.setdefault(item, {}).setdefault(match["tile"], {})
        tile.update(dict.fromkeys(numbers[item, text], match["answer"] == "yes"))
    if not answers:
        raise ValueError(f"{path} holds no answer")
    return {item: list(tiles.values()) for item, tiles in answers.items()}


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


def _numbers_by_text(rows: Sequence[Question]) -> dict[tuple[str, str], list[int]]:
    """Return the numbers of the questions with each (item, text)."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for item, questions in by_item(rows).items():
        for number, question in questions.items():
            numbers.setdefault((item, question.text), []).append(number)
    return numbers


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason}") from None

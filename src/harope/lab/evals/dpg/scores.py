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

# The second part of `image, (left, top, right, bottom), question, answer`. All other parts may
# contain commas, so that questions are recognised by their known texts.
_TILE = re.compile(r", (\((?:\d+, ){3}\d+\)), ")


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
    texts = _numbers_by_text(rows)
    answers: dict[str, dict[str, dict[int, bool]]] = {}
    for place, line in enumerate(_read_lines(path), start=1):
        item, tile, text, answer = _parse_answer(line, texts, f"{path} line {place}")
        numbers = texts[item][text]
        answers.setdefault(item, {}).setdefault(tile, {}).update(
            dict.fromkeys(numbers, answer == "yes")
        )
    if not answers:
        raise ValueError(f"{path} holds no answer")
    return {item: list(tiles.values()) for item, tiles in answers.items()}


def _parse_answer(
    line: str, texts: Mapping[str, Mapping[str, Sequence[int]]], where: str
) -> tuple[str, str, str, str]:
    """Split a line into item, tile, known question and answer."""
    reason = "is not an answer, which has the form `image, (tile), question, yes`"
    for match in _TILE.finditer(line):
        item = Path(line[: match.start()]).name.split(".")[0]
        rest = line[match.end() :].lstrip()
        # A question may be the beginning of another one.
        for text in sorted(texts.get(item, ()), key=len, reverse=True):
            answer = rest.removeprefix(text).lstrip()
            if rest.startswith(text) and answer.startswith(", "):
                return item, match[1], text, answer.removeprefix(", ")
        if ", " in rest:
            question = rest.rpartition(", ")[0]
            reason = f"asks {question!r} of {item}, which is not in the table of questions"
    raise ValueError(f"{where} {reason}")


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


def _numbers_by_text(rows: Sequence[Question]) -> dict[str, dict[str, list[int]]]:
    """Return the numbers of the questions with each text, by item."""
    numbers: dict[str, dict[str, list[int]]] = {}
    for item, questions in by_item(rows).items():
        texts = numbers.setdefault(item, {})
        for number, question in questions.items():
            texts.setdefault(question.text, []).append(number)
    return numbers


def _read_lines(path: Path) -> list[str]:
    # Lines end at line feeds alone: answers may contain other separators, such as U+2028.
    lines = path.read_bytes().rstrip(b"\n").split(b"\n")
    if lines == [b""]:
        return []
    return [_decode(line, f"{path} line {number}") for number, line in enumerate(lines, start=1)]


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode().removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8: {error.reason}") from None

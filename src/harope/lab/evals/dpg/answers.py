"""Answers that DPG-Bench's official script wrote down: its `*_detail.txt`."""

import re
from collections.abc import Sequence
from pathlib import Path

from harope.lab.evals.dpg.questions import Question, by_item
from harope.lab.evals.dpg.scores import Answers

# picture, (left, top, right, bottom), question, answer; questions hold commas too.
_LINE = re.compile(r"(?P<picture>.*), (?P<tile>\((?:\d+, ){3}\d+\)), (?P<text>.*), (?P<answer>.*)")


def read_answers(path: Path, rows: Sequence[Question]) -> dict[str, list[Answers]]:
    """Answers by item and tile, of lines in any order.

    The script does not ask the table's first row, and stops at a picture on which it fails, so
    that answers may lack. Raises ValueError naming a line that is none of it, or asks what the
    table lacks.
    """
    numbers = _numbers(rows)
    found: dict[str, dict[str, dict[int, bool]]] = {}
    for place, line in enumerate(_lines(path), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path} line {place} is no answer: picture, (tile), question, yes")
        item, text = Path(match["picture"]).name.split(".")[0], match["text"].strip()
        if (item, text) not in numbers:
            raise ValueError(f"{path} line {place} asks {text!r} of {item}, which the table lacks")
        tile = found.setdefault(item, {}).setdefault(match["tile"], {})
        tile.update(dict.fromkeys(numbers[item, text], match["answer"] == "yes"))
    if not found:
        raise ValueError(f"{path} holds no answer")
    return {item: list(tiles.values()) for item, tiles in found.items()}


def _numbers(rows: Sequence[Question]) -> dict[tuple[str, str], list[int]]:
    """Which questions of an item have a text."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for item, questions in by_item(rows).items():
        for number, question in questions.items():
            numbers.setdefault((item, question.text), []).append(number)
    return numbers


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason}") from None

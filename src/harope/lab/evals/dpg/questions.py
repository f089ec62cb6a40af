"""DPG-Bench's questions: `dpg_bench/dpg_bench.csv` of github.com/TencentQQGYLab/ELLA."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

COLUMNS = ("item_id", "proposition_id", "dependency", "tuple", "question_natural_language")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row."""

    item: str
    """The prompt's stem."""
    number: int
    """Among the item's."""
    parents: tuple[int, ...]
    """Numbers of questions whose answer must be yes; 0 is none."""
    category: str
    """Detailed, such as "entity - whole"; what the row's tuple begins with."""
    text: str


ByItem: TypeAlias = dict[str, dict[int, Question]]
"""Questions by item and number, in the order of the rows."""


def read_questions(path: Path) -> tuple[Question, ...]:
    """All rows. Raises ValueError naming file and line of the first that the scorer cannot use."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(
                    f"{path} lacks the columns {', '.join(missing)}: pass DPG-Bench's dpg_bench.csv"
                )
            rows = [_question(row, f"{path} line {reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from None
    if not rows:
        raise ValueError(f"{path} holds no question: pass DPG-Bench's dpg_bench.csv")
    return tuple(rows)


def by_item(rows: Sequence[Question]) -> ByItem:
    """All rows."""
    items: ByItem = {}
    for row in rows:
        items.setdefault(row.item, {})[row.number] = row
    return items


def as_scripted(rows: Sequence[Question]) -> ByItem:
    """The rows that the official script takes up.

    Not the first row (ELLA#61); and where an item's rows are not together, the last of its blocks.
    """
    items: ByItem = {}
    previous = None
    for row in rows[1:]:
        if row.item != previous:
            items[row.item] = {}
        items[row.item][row.number] = row
        previous = row.item
    return items


def _question(row: dict[str, str | None], where: str) -> Question:
    cells = {name: (row[name] or "").strip() for name in COLUMNS}
    try:
        number = int(cells["proposition_id"])
        parents = tuple(int(word) for word in cells["dependency"].split(","))
    except ValueError:
        raise ValueError(
            f"{where}: proposition_id {cells['proposition_id']!r} and dependency "
            f"{cells['dependency']!r} must be whole numbers, of dependencies some, as 1,2"
        ) from None
    for name in ("item_id", "tuple", "question_natural_language"):
        if not cells[name]:
            raise ValueError(f"{where}: {name} is empty")
    return Question(
        item=cells["item_id"],
        number=number,
        parents=parents,
        category=cells["tuple"].split("(")[0].strip(),
        text=cells["question_natural_language"],
    )

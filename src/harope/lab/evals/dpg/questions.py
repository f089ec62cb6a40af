"""DPG-Bench's questions: `dpg_bench/dpg_bench.csv` of github.com/TencentQQGYLab/ELLA."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

COLUMNS = ("item_id", "proposition_id", "dependency", "tuple", "question_natural_language")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about the images of a prompt: a row of the table."""

    item: str
    """Name of the prompt: the stem of its file."""
    number: int
    """Number of the question among those of the item (`proposition_id`)."""
    parents: tuple[int, ...]
    """Numbers of the questions whose answers must be yes for this one to count; 0 is none."""
    category: str
    """Detailed category, such as "entity - whole": the beginning of the column `tuple`."""
    text: str
    """The question in natural language."""


ByItem: TypeAlias = dict[str, dict[int, Question]]
"""Questions by item and number, in the order of the rows."""


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read all rows of a `dpg_bench.csv`.

    Args:
        path: The table.

    Returns:
        The questions in the order of the rows.

    Raises:
        ValueError: Naming the file and the first line that the scorer cannot use.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(
                    f"{path} has no columns {', '.join(missing)}: pass DPG-Bench's dpg_bench.csv"
                )
            rows = [_question(row, f"{path} line {reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from None
    if not rows:
        raise ValueError(f"{path} holds no question: pass DPG-Bench's dpg_bench.csv")
    return tuple(rows)


def by_item(rows: Sequence[Question]) -> ByItem:
    """Group all questions by item and number.

    Args:
        rows: Questions of any number of items.

    Returns:
        All of the questions by item and number.
    """
    items: ByItem = {}
    for row in rows:
        items.setdefault(row.item, {})[row.number] = row
    return items


def as_scripted(rows: Sequence[Question]) -> ByItem:
    """Group the questions that the official script uses by item and number.

    The script skips the first row (ELLA#61). If the rows of an item are not consecutive, it uses
    only the last block of them.

    Args:
        rows: All questions of the table.

    Returns:
        The questions that the script uses, by item and number.
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
            f"{where}: proposition_id must be an integer and dependency a comma-separated list of "
            f"integers such as '1,2'; got {cells['proposition_id']!r} and {cells['dependency']!r}"
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

"""The tables of docs/scale.md are those that the code computes."""

import importlib
from pathlib import Path

import pytest

from harope.lab.reporting.tables import markdown_table

ROOT = Path(__file__).parents[3]


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("scripts.scale")


@pytest.fixture
def page() -> str:
    return (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


# The other tables need models that take long to count; `python -m scripts.scale` computes them too.
@pytest.mark.parametrize("name", ["cards", "limits", "assumptions"])
def test_tables_are_up_to_date(name, scale, page):
    assert scale.replace_part(page, name, markdown_table(scale.TABLES[name]())) == page


def test_rows_of_the_paper_are_up_to_date(scale, page):
    rows = scale.training_rows(scale.PAPER)
    assert (
        markdown_table([rows[0], *rows]).splitlines()[2:]
        == [line for line in page.splitlines() if line.startswith(f"| {scale.PAPER} | ")][
            : len(rows)
        ]
    )


def test_the_error_is_up_to_date(scale, page):
    assert scale.replace_part(page, "error", scale.error_example()) == page


def test_every_table_has_its_place(scale, page):
    for name in (*scale.TABLES, "error"):
        assert page.count(f"<!-- {name} -->") == page.count(f"<!-- end of {name} -->") == 1


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234.0, "1,200"), (56.7, "57"), (0.0123, "0.012"), (2.0, "2.0")]
)
def test_numbers_have_two_digits(value, text, scale):
    assert scale._round(value) == text

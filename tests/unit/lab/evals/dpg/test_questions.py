import pytest

from harope.lab.evals.dpg.questions import as_scripted, by_item, read_questions
from support.scorer import DPG_COLUMNS, write_questions

ROWS = [
    ("partiprompts97", 1, "0", "entity - whole (dog)"),
    ("partiprompts97", 2, "1", "attribute - color (dog, red)"),
    ("7", 1, "0", "global - (photo)"),
    ("7", 2, "0, 1", "relation - spatial (dog, cat, on (top))"),
]


@pytest.fixture
def table(tmp_path):
    return write_questions(tmp_path / "dpg_bench.csv", ROWS)


def test_rows_are_read_with_what_they_depend_on(table):
    rows = read_questions(table)
    assert [(row.item, row.number) for row in rows] == [(item, n) for item, n, _, _ in ROWS]
    assert [row.parents for row in rows] == [(0,), (1,), (0,), (0, 1)]
    assert [row.category for row in rows] == [
        "entity - whole", "attribute - color", "global -", "relation - spatial",
    ]  # fmt: skip
    assert rows[3].text == "Is it so, 2 ?"


def test_the_script_passes_over_the_first_row(table):
    rows = read_questions(table)
    assert {item: list(them) for item, them in by_item(rows).items()} == {
        "partiprompts97": [1, 2], "7": [1, 2],
    }  # fmt: skip
    assert {item: list(them) for item, them in as_scripted(rows).items()} == {
        "partiprompts97": [2], "7": [1, 2],
    }  # fmt: skip


def test_the_script_keeps_the_last_block_of_rows_that_are_not_together(tmp_path):
    more = [*ROWS, ("partiprompts97", 3, "0", "other - x (y)")]
    rows = read_questions(write_questions(tmp_path / "t.csv", more))
    assert list(as_scripted(rows)["partiprompts97"]) == [3]
    assert list(by_item(rows)["partiprompts97"]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("item_id,text\na,b\n", "has no columns proposition_id, dependency, tuple"),
        (",".join(DPG_COLUMNS) + "\n", "holds no question"),
        (",".join(DPG_COLUMNS) + "\na,,,one,0,,,e (x),q\n", "line 2: .* got 'one' and '0'"),
        (",".join(DPG_COLUMNS) + "\na,,,1,,,,e (x),q\n", "line 2: .* got '1' and ''"),
        (",".join(DPG_COLUMNS) + "\na,,,1,0,,,e (x),\n", "question_natural_language is empty"),
        (",".join(DPG_COLUMNS) + "\na,,,1,0\n", "line 2: tuple is empty"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_its_line(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"t\.csv.* ?{words}"):
        read_questions(tmp_path / "t.csv")


def test_a_table_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        read_questions(tmp_path / "t.csv")

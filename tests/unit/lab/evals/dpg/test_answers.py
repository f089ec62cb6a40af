import pytest

from harope.lab.evals.dpg.questions import Question
from harope.lab.evals.dpg.scores import corrected_scores, read_answers, scripted_scores


def question(item: str, number: int, parent: int, text: str) -> Question:
    return Question(item=item, number=number, parents=(parent,), category="c", text=text)


ROWS = (
    question("p1", 1, 0, "a dog?"),
    question("p1", 2, 1, "is it red, or so?"),
    question("p2", 1, 0, "a cat?"),
    question("p2", 2, 1, "is it black, or so?"),
)
# As the script leaves it: p1's first question is not asked, and after one tile it fails.
LINES = """\
out, mine/p1.png, (0, 0, 8, 8), is it red, or so?, yes
out, mine/p2.png, (0, 0, 8, 8), a cat?, yes
out, mine/p2.png, (0, 0, 8, 8), is it black, or so?, no
out, mine/p2.png, (8, 0, 16, 8), a cat?, yes
out, mine/p2.png, (8, 0, 16, 8), is it black, or so?, yes
"""


def test_answers_of_the_official_script_are_scored_both_ways(tmp_path):
    (tmp_path / "a_detail.txt").write_text(LINES)
    answers = read_answers(tmp_path / "a_detail.txt", ROWS)
    assert answers == {"p1": [{2: True}], "p2": [{1: True, 2: False}, {1: True, 2: True}]}
    for scores in (scripted_scores(ROWS, answers), corrected_scores(ROWS, answers)):
        assert scores.prompts == {"p2": 0.75}
        assert scores.left_out == ("p1",)
    assert scripted_scores(ROWS, answers).detailed == {"c": 1.0}
    assert corrected_scores(ROWS, answers).detailed == {"c": 0.75}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello\n", "line 1 is not an answer"),
        (
            "p2.png, (0, 0, 8, 8), a dog?, yes\n",
            "line 1 asks 'a dog\\?' of p2, which is not in the table",
        ),
        ("", "holds no answer"),
    ],
)
def test_other_files_are_refused(tmp_path, text, words):
    (tmp_path / "a_detail.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"a_detail\.txt {words}"):
        read_answers(tmp_path / "a_detail.txt", ROWS)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("p1.png, (0, 0, 8, 8), is it red, or so?, yes", {"p1": [{2: True}]}),
        ("p1.png, (0, 0, 8, 8), is it red, or so?, black, white", {"p1": [{2: False}]}),
        ("p1.png, (0, 0, 8, 8), is it red, or so?, yes, it is", {"p1": [{2: False}]}),
        ("p1.png, (0, 0, 8, 8), is it red, or so?, ", {"p1": [{2: False}]}),
        ("p1.png, (0, 0, 8, 8), is it red, or so?, (1, 2, 3, 4), no", {"p1": [{2: False}]}),
        ("p1.png, (0, 0, 8, 8), is it red, or so?, red\x85or\u2028so", {"p1": [{2: False}]}),
        ("a, (1, 2, 3, 4), b/p1.png, (0, 0, 8, 8), a dog?, yes", {"p1": [{1: True}]}),
    ],
)
def test_answers_and_paths_may_have_commas(tmp_path, line, expected):
    (tmp_path / "a_detail.txt").write_text(f"{line}\n", encoding="utf-8")
    assert read_answers(tmp_path / "a_detail.txt", ROWS) == expected
    (tmp_path / "a_detail.txt").write_bytes(f"{line}\r\n".encode())
    assert read_answers(tmp_path / "a_detail.txt", ROWS) == expected


def test_a_question_may_begin_like_another_one(tmp_path):
    rows = (question("p1", 1, 0, "is it"), question("p1", 2, 0, "is it, or not"))
    lines = ("p1.png, (0, 0, 8, 8), is it, no", "p1.png, (0, 0, 8, 8), is it, or not, yes")
    (tmp_path / "a_detail.txt").write_text("\n".join(lines))
    assert read_answers(tmp_path / "a_detail.txt", rows) == {"p1": [{1: False, 2: True}]}


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "a_detail.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"a_detail\.txt line 1 is not UTF-8"):
        read_answers(tmp_path / "a_detail.txt", ROWS)

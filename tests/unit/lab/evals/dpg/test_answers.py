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
        ("p2.png, (0, 0, 8, 8), a dog?, yes\n", "line 1 asks 'a dog\\?' of p2, which the table"),
        ("", "holds no answer"),
    ],
)
def test_other_files_are_refused(tmp_path, text, words):
    (tmp_path / "a_detail.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"a_detail\.txt {words}"):
        read_answers(tmp_path / "a_detail.txt", ROWS)

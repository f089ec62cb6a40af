"""DPG-Bench's scores on answers counted by hand, with the script's faults and without."""

import pytest

from harope.lab.evals.dpg.questions import Question
from harope.lab.evals.dpg.scores import corrected_scores, scripted_scores, tile_score


def question(item: str, number: int, parents: tuple[int, ...], category: str) -> Question:
    return Question(item=item, number=number, parents=parents, category=category, text="?")


ROWS = (
    question("p1", 1, (0,), "entity - whole"),
    question("p1", 2, (1,), "attribute - color"),
    question("p2", 1, (0,), "entity - whole"),
    question("p2", 2, (1,), "attribute - color"),
    question("p2", 3, (2,), "relation - spatial"),
    question("p2", 4, (0,), "attribute - size"),
)
ANSWERS = {
    "p1": [{1: True, 2: True}, {1: True, 2: False}],
    "p2": [
        {1: True, 2: False, 3: True, 4: False},
        {1: False, 2: True, 3: True, 4: True},
    ],
}


def numbered(*parents: tuple[int, ...]) -> dict[int, Question]:
    return {n: question("p", n, them, "c") for n, them in enumerate(parents, start=1)}


def test_children_of_a_question_that_failed_count_nothing():
    questions = numbered((0,), (1,), (0,), (1, 3))
    assert tile_score(questions, {1: True, 2: True, 3: True, 4: True}) == 1
    assert tile_score(questions, {1: False, 2: True, 3: True, 4: True}) == 1 / 4
    assert tile_score(questions, {1: True, 2: True, 3: False, 4: True}) == 2 / 4


def test_what_was_zeroed_zeroes_on_in_the_order_of_the_rows():
    answers = {1: False, 2: True, 3: True}
    assert tile_score(numbered((0,), (1,), (2,)), answers) == 0
    # Question 2 is zeroed only after question 1 asked for it.
    assert tile_score(numbered((2,), (3,), (0,)), {1: True, 2: True, 3: False}) == 1 / 3


def test_corrected_scores_count_all_rows_and_tiles():
    scores = corrected_scores(ROWS, ANSWERS)
    # p1: 1 and 1/2. p2: 1 alone of four, as 3 falls with 2; then 4 alone, as 2 and 3 fall with 1.
    assert scores.prompts == pytest.approx({"p1": 3 / 4, "p2": 1 / 4})
    assert scores.score == pytest.approx(1 / 2)
    assert scores.left_out == ()
    assert scores.detailed == pytest.approx(
        {
            "attribute - color": 2 / 4,
            "attribute - size": 1 / 2,
            "entity - whole": 3 / 4,
            "relation - spatial": 1,
        }
    )
    assert scores.broad == pytest.approx({"attribute": 3 / 6, "entity": 3 / 4, "relation": 1})


def test_scripted_scores_fail_on_the_first_item_and_take_categories_of_the_last_tile():
    scores = scripted_scores(ROWS, ANSWERS)
    assert scores.prompts == pytest.approx({"p2": 1 / 4})
    assert scores.left_out == ("p1",)
    assert scores.detailed == pytest.approx(
        {
            "attribute - color": 1,
            "attribute - size": 1,
            "entity - whole": 0,
            "relation - spatial": 1,
        }
    )
    assert scores.broad == pytest.approx({"attribute": 1, "entity": 0, "relation": 1})


def test_scripted_scores_keep_the_first_item_where_nothing_depends_on_its_first_question():
    rows = (ROWS[0], question("p1", 2, (0,), "attribute - color"), *ROWS[2:])
    scores = scripted_scores(rows, ANSWERS)
    # Question 2 alone, yes in one tile of two.
    assert scores.prompts["p1"] == 1 / 2
    assert scores.score == pytest.approx((1 / 2 + 1 / 4) / 2)


def test_the_script_does_not_notice_a_missing_parent_behind_one_that_failed():
    rows = (
        question("p1", 1, (0,), "entity - whole"),
        question("p1", 2, (0,), "entity - whole"),
        question("p1", 3, (2, 1), "entity - whole"),
    )
    failed = scripted_scores(rows, {"p1": [{1: True, 2: False, 3: True}]})
    assert failed.prompts == {"p1": 0}
    assert scripted_scores(rows, {"p1": [{1: True, 2: True, 3: True}]}).left_out == ("p1",)


def test_a_single_item_that_the_script_leaves_out_has_no_scripted_score():
    answers = {"p1": ANSWERS["p1"]}
    assert scripted_scores(ROWS[:2], answers).score is None
    assert corrected_scores(ROWS[:2], answers).score == 3 / 4


def test_intervals_are_students_over_prompts():
    low, high = corrected_scores(ROWS, ANSWERS).interval
    # 1/2 -+ 12.7062 * 0.353553 / sqrt 2.
    assert (low, high) == pytest.approx((0.5 - 3.17655, 0.5 + 3.17655), rel=1e-5)
    assert scripted_scores(ROWS, ANSWERS).interval is None

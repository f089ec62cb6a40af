"""GenEval's verdicts on cases worked out by hand from its published rules."""

import pytest

from harope.lab.evals.geneval.rules import (
    Detection,
    GenEvalRules,
    evaluate_image,
    relative_position,
    select_objects,
)

RULES = GenEvalRules()


def at(x: float, y: float, name: str = "dog", score: float = 0.95, side: float = 10) -> Detection:
    """An object with this centre."""
    half = side / 2
    return Detection(name, score, (x - half, y - half, x + half, y + half))


def no_colors(objects, name):
    raise AssertionError(f"colours of {name} asked for")


def verdict(objects, include, exclude=(), colors=no_colors):
    kept = select_objects(objects, "position", RULES)
    return evaluate_image(kept, {"include": include, "exclude": list(exclude)}, colors, RULES)


@pytest.mark.parametrize(
    ("dx", "dy", "words"),
    [
        # Slack is 0.1 (10 + 10) = 2; what is left is divided by the whole offset's length.
        (-20, 0, ["left of"]),  # 18 / 20
        (20, 0, ["right of"]),
        (0, -20, ["above"]),
        (0, 20, ["below"]),
        (-20, -20, ["left of", "above"]),  # 18 / 28.3 = 0.64 both
        (20, -8, ["right of"]),  # 18 / 21.5 = 0.84, 6 / 21.5 = 0.28
        (1.9, 0, []),  # within the slack
        (3, 0, []),  # 1 / 3
        (5, 0, ["right of"]),  # 3 / 5
    ],
)
def test_where_an_object_is_from_another(dx, dy, words):
    assert relative_position(at(100 + dx, 100 + dy), at(100, 100), RULES) == words


def test_the_slack_grows_with_both_boxes():
    # 0.1 (10 + 70) = 8 of 12 is left 4: 4 / 12.
    assert relative_position(at(112, 100), at(100, 100, side=70), RULES) == []


def test_scores_must_exceed_the_threshold_of_the_task():
    found = [at(0, 0, score=0.3), at(0, 0, "cat", 0.31), at(0, 0, "bird", 0.9), at(0, 0, "cow", 1)]
    assert list(select_objects(found, "colors", RULES)) == ["bird", "cat", "cow"]
    assert list(select_objects(found, "counting", RULES)) == ["cow"]


def test_the_sixteen_best_of_a_class_are_kept_best_first():
    found = [at(0, 0, score=0.4 + place / 100) for place in range(20)]
    scores = [one.score for one in select_objects(found, "colors", RULES)["dog"]]
    assert scores == pytest.approx([0.59 - place / 100 for place in range(16)])


def test_objects_that_are_asked_for_must_be_there():
    one, two = {"class": "dog", "count": 1}, {"class": "cat", "count": 2}
    assert verdict([at(0, 0), at(0, 0, "cat"), at(0, 0, "cat")], [one, two]) == (True, "")
    assert verdict([at(0, 0), at(0, 0, "cat")], [one, two]) == (False, "expected cat>=2, found 1")
    assert verdict([], [one, two]).reason.splitlines() == [
        "expected dog>=1, found 0",
        "expected cat>=2, found 0",
    ]


def test_a_number_is_exact_by_what_is_excluded():
    include, exclude = [{"class": "dog", "count": 2}], [{"class": "dog", "count": 3}]
    dogs = [at(20 * place, 0) for place in range(3)]
    assert verdict(dogs[:2], include, exclude).correct
    assert verdict(dogs, include, exclude) == (False, "expected dog<3, found 3")


def test_colors_are_of_the_best_objects_alone():
    asked = []

    def colors(objects, name):
        asked.append(([one.score for one in objects], name))
        return ["red"]

    include = [{"class": "dog", "count": 1, "color": "red"}]
    found = [at(0, 0, score=0.5), at(0, 0, score=0.8)]
    assert verdict(found, include, colors=colors).correct
    assert asked == [([0.8], "dog")]


def test_colors_that_are_wrong_are_listed():
    include = [{"class": "dog", "count": 3, "color": "red"}]
    found = [at(20 * place, 0) for place in range(3)]
    said = verdict(found, include, colors=lambda objects, name: ["blue", "red", "blue"])
    assert said == (False, "expected red dog>=3, found 1 red; and 1 red, 2 blue")


def test_colors_are_not_asked_of_too_few_objects():
    include = [{"class": "dog", "count": 1, "color": "red"}]
    assert verdict([], include).reason == "expected dog>=1, found 0"


def placed(relation, count=1):
    return [
        {"class": "cat", "count": count},
        {"class": "dog", "count": 1, "position": [relation, 0]},
    ]


def test_positions_are_from_the_clause_that_is_named():
    found = [at(0, 0), at(50, 0, "cat")]
    assert verdict(found, placed("left of")).correct
    wrong = verdict(found, placed("above"))
    assert wrong == (False, "expected dog above target, found left of target")


def test_positions_hold_against_all_targets():
    found = [at(0, 0), at(50, 0, "cat"), at(-50, 0, "cat", 0.9)]
    assert verdict(found, placed("left of")).correct
    assert not verdict(found, placed("left of", count=2)).correct


def test_positions_need_a_target_that_fulfils_its_own_clause():
    said = verdict([at(0, 0)], placed("left of"))
    assert said.reason.splitlines()[1] == "no target for dog to be left of"


def test_positions_are_not_asked_of_objects_of_another_color():
    include = placed("above")
    include[1]["color"] = "red"
    found = [at(0, 0), at(50, 0, "cat")]
    said = verdict(found, include, colors=lambda objects, name: ["blue"])
    assert said.reason == "expected red dog>=1, found 0 red; and 1 blue"

import pytest

from harope.lab.scenes.grammar import Prompt, Request, Scene, Shape, class_prompt, encode_class
from harope.lab.scenes.score import ClassVerdict, errors, judge_class, satisfies


def shape(kind: str, color: str = "red", x: float = 0.5, y: float = 0.5, radius: float = 0.11):
    return Shape(kind, color, radius, x, y)


def prompt(task: str, *requests: Request, relation: str | None = None) -> Prompt:
    return Prompt(task, "a picture", requests, relation)


SINGLE = prompt("single_object", Request("star"))
PAIR = prompt("two_object", Request("star"), Request("cross"))
THREE = prompt("counting", Request("star", None, 3))
RED_STAR = prompt("colors", Request("star", "red"))
STAR_LEFT = prompt("position", Request("star"), Request("cross"), relation="left of")
COLORED_PAIR = prompt("color_attr", Request("star", "red"), Request("cross", "blue"))


@pytest.mark.parametrize(
    ("asked", "shapes"),
    [
        (SINGLE, [shape("star")]),
        (SINGLE, [shape("star"), shape("cross"), shape("unknown")]),
        (PAIR, [shape("cross"), shape("star")]),
        (THREE, [shape("star", "red"), shape("star", "blue"), shape("star"), shape("cross")]),
        (RED_STAR, [shape("star", "red"), shape("cross", "blue")]),
        (STAR_LEFT, [shape("cross", x=0.8), shape("star", x=0.2)]),
        (STAR_LEFT, [shape("cross", x=0.8, y=0.7), shape("star", x=0.2, y=0.2)]),
        (COLORED_PAIR, [shape("cross", "blue"), shape("star", "red")]),
    ],
)
def test_scenes_that_show_what_is_asked_for_satisfy(asked: Prompt, shapes: list[Shape]):
    assert satisfies(Scene(tuple(shapes)), asked)


@pytest.mark.parametrize(
    ("asked", "shapes", "reasons"),
    [
        (SINGLE, [], ["expected at least 1 star, found 0"]),
        (SINGLE, [shape("unknown")], ["expected at least 1 star, found 0"]),
        (PAIR, [shape("star"), shape("star")], ["expected at least 1 cross, found 0"]),
        (THREE, [shape("star")] * 2, ["expected 3 star, found 2"]),
        (THREE, [shape("star")] * 4, ["expected 3 star, found 4"]),
        (RED_STAR, [shape("star", "blue")], ["expected red star, found blue"]),
        (
            STAR_LEFT,
            [shape("star", x=0.8), shape("cross", x=0.2)],
            ["expected star left of cross, found right of"],
        ),
        (
            STAR_LEFT,
            [shape("star", y=0.2), shape("cross", y=0.8)],
            ["expected star left of cross, found above"],
        ),
        (STAR_LEFT, [shape("star")], ["expected at least 1 cross, found 0"]),
        (
            COLORED_PAIR,
            [shape("star", "blue"), shape("cross", "red")],
            ["expected red star, found blue", "expected blue cross, found red"],
        ),
    ],
)
def test_scenes_that_do_not_are_wrong_for_the_reason_given(
    asked: Prompt, shapes: list[Shape], reasons: list[str]
):
    scene = Scene(tuple(shapes))
    assert errors(scene, asked) == reasons
    assert not satisfies(scene, asked)


def test_shapes_at_one_place_have_no_relation():
    scene = Scene((shape("star"), shape("cross")))
    assert errors(scene, STAR_LEFT) == ["expected star left of cross, found neither"]


def test_of_too_many_shapes_the_largest_is_judged():
    large, small = shape("star", "red", radius=0.2), shape("star", "blue", radius=0.1)
    assert satisfies(Scene((small, large)), RED_STAR)
    assert not satisfies(Scene((small, large)), prompt("colors", Request("star", "blue")))


@pytest.mark.parametrize(
    ("shapes", "verdict"),
    [
        ([shape("star", "red")] * 3, (True, True, True)),
        ([shape("star", "red")] * 2, (True, True, False)),
        ([shape("star", "red")] * 2 + [shape("star", "blue")], (True, False, True)),
        ([shape("star", "red")] * 2 + [shape("unknown", "red")], (False, True, True)),
        ([shape("cross", "blue")] * 4, (False, False, False)),
        ([], (False, False, False)),
    ],
)
def test_class_verdict_judges_kind_color_and_count_apart(
    shapes: list[Shape], verdict: tuple[bool, bool, bool]
):
    judged = judge_class(Scene(tuple(shapes)), encode_class("star", "red", 3))
    assert judged == ClassVerdict(*verdict)
    assert judged.exact == all(verdict)


@pytest.mark.parametrize(
    "shapes",
    [
        [shape("star", "red")] * 3,
        [shape("star", "red")] * 2,
        [shape("star", "red")] * 4,
        [shape("star", "red")] * 3 + [shape("unknown", "red")],
        [shape("star", "red")] * 2 + [shape("star", "blue")],
    ],
)
def test_class_prompt_is_satisfied_where_the_verdict_is_exact(shapes: list[Shape]):
    scene, label = Scene(tuple(shapes)), encode_class("star", "red", 3)
    assert satisfies(scene, class_prompt(label)) == judge_class(scene, label).exact


def test_shapes_beyond_the_class_are_named():
    scene = Scene((shape("star"), shape("unknown")))
    label = encode_class("star", "red", 1)
    assert errors(scene, class_prompt(label)) == ["expected nothing else, found unknown"]

import re
from itertools import combinations
from math import hypot

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harope.lab.scenes.grammar import (
    CLASS_TASK,
    COLORS,
    KINDS,
    MAX_COUNT,
    NUM_CLASSES,
    TASKS,
    Prompt,
    Request,
    Scene,
    Shape,
    class_name,
    class_prompt,
    decode_class,
    encode_class,
    relations,
    rng_for,
    sample_prompt,
    sample_scene,
)
from harope.lab.scenes.layout import GAP, MARGIN, SIZES
from harope.lab.scenes.score import satisfies

seeds = st.integers(0, 2**63)
# A task of GenEval, or a class label.
wishes = st.one_of(st.sampled_from(TASKS), st.integers(0, NUM_CLASSES - 1))


def draw(wish: str | int, seed: int) -> tuple[Prompt, Scene]:
    rng = rng_for(seed, 0)
    prompt = class_prompt(wish) if isinstance(wish, int) else sample_prompt(wish, rng)
    return prompt, sample_scene(prompt, rng)


@settings(deadline=None, max_examples=100)
@given(wishes, seeds)
def test_drawn_shapes_keep_their_gap(wish: str | int, seed: int):
    _, scene = draw(wish, seed)
    for a, b in combinations(scene.shapes, 2):
        assert hypot(a.x - b.x, a.y - b.y) >= a.radius + b.radius + GAP - 1e-12


@settings(deadline=None, max_examples=100)
@given(wishes, seeds)
def test_drawn_shapes_lie_inside_the_picture(wish: str | int, seed: int):
    _, scene = draw(wish, seed)
    for shape in scene.shapes:
        reach = shape.radius + MARGIN - 1e-12
        assert reach <= shape.x <= 1 - reach
        assert reach <= shape.y <= 1 - reach


@settings(deadline=None, max_examples=100)
@given(wishes, seeds)
def test_drawn_shapes_have_known_kind_color_and_size(wish: str | int, seed: int):
    _, scene = draw(wish, seed)
    for shape in scene.shapes:
        assert shape.kind in KINDS
        assert shape.color in COLORS
        assert shape.radius in SIZES.values()


@settings(deadline=None, max_examples=200)
@given(wishes, seeds)
def test_every_drawn_scene_satisfies_its_prompt(wish: str | int, seed: int):
    prompt, scene = draw(wish, seed)
    assert satisfies(scene, prompt)


@settings(deadline=None, max_examples=25)
@given(wishes, seeds)
def test_same_seed_draws_the_same_prompt_and_scene(wish: str | int, seed: int):
    assert draw(wish, seed) == draw(wish, seed)


def test_neighbouring_seeds_and_indices_draw_different_numbers():
    draws = {rng_for(seed, index).random() for seed in range(20) for index in range(20)}
    assert len(draws) == 400


def test_stream_is_that_of_pcg64_with_the_index_as_spawn_key():
    stream = np.random.SeedSequence(11).spawn(4)[3]
    assert rng_for(11, 3).random() == np.random.Generator(np.random.PCG64(stream)).random()


def test_six_shapes_always_find_room():
    prompt = class_prompt(encode_class("star", "red", MAX_COUNT))
    drawn = [sample_scene(prompt, rng_for(0, index)) for index in range(200)]
    assert all(len(scene.shapes) == 6 for scene in drawn)


@pytest.mark.parametrize(
    ("task", "pattern"),
    [
        ("single_object", r"a picture of a (\w+)"),
        ("two_object", r"a picture of a (\w+) and a (\w+)"),
        ("counting", r"a picture of (two|three|four) (\w+s)"),
        ("colors", r"a picture of a (\w+) (\w+)"),
        ("position", r"a picture of a (\w+) (left of|right of|above|below) a (\w+)"),
        ("color_attr", r"a picture of a (\w+) (\w+) and a (\w+) (\w+)"),
    ],
)
def test_captions_have_the_form_of_their_task(task: str, pattern: str):
    for index in range(50):
        assert re.fullmatch(pattern, sample_prompt(task, rng_for(0, index)).caption)


def test_pairs_never_repeat_a_kind_or_a_color():
    for index in range(100):
        first, second = sample_prompt("color_attr", rng_for(0, index)).requests
        assert first.kind != second.kind
        assert first.color != second.color


def test_prompts_cover_every_kind_color_count_and_relation():
    drawn = [sample_prompt(task, rng_for(0, i)) for task in TASKS for i in range(200)]
    requests = [request for prompt in drawn for request in prompt.requests]
    assert {request.kind for request in requests} == set(KINDS)
    assert {request.color for request in requests} == {*COLORS, None}
    assert {request.count for request in requests} == {1, 2, 3, 4}
    assert {p.relation for p in drawn} == {"left of", "right of", "above", "below", None}


def test_equal_captions_mean_equal_prompts():
    drawn = {sample_prompt(task, rng_for(0, i)) for task in TASKS for i in range(300)}
    assert len({prompt.caption for prompt in drawn}) == len(drawn)


def test_class_captions_are_distinct():
    assert len({class_prompt(label).caption for label in range(NUM_CLASSES)}) == NUM_CLASSES == 180


def test_class_names_are_distinct_parts_of_captions():
    names = [class_name(label) for label in range(NUM_CLASSES)]
    assert len(set(names)) == NUM_CLASSES
    assert class_name(encode_class("cross", "blue", 3)) == "three blue crosses"
    assert class_name(encode_class("star", "red", 1)) == "a red star"


def test_class_labels_and_their_parts_are_in_bijection():
    labels = [encode_class(k, c, n) for k in KINDS for c in COLORS for n in range(1, 7)]
    assert sorted(labels) == list(range(NUM_CLASSES))
    assert [encode_class(*decode_class(label)) for label in labels] == labels


def test_class_prompt_asks_for_its_class():
    prompt = class_prompt(encode_class("cross", "blue", 3))
    assert prompt.task == CLASS_TASK
    assert prompt.caption == "a picture of three blue crosses"
    assert prompt.requests == (Request("cross", "blue", 3),)


def test_colors_are_far_from_white_and_from_each_other():
    palette = [np.array(rgb) for rgb in (*COLORS.values(), (1.0, 1.0, 1.0))]
    assert min(np.linalg.norm(a - b) for a, b in combinations(palette, 2)) > 0.5


@pytest.mark.parametrize(
    ("x", "y", "held"),
    [
        (0.2, 0.5, {"left of"}),
        (0.8, 0.5, {"right of"}),
        (0.5, 0.2, {"above"}),
        (0.5, 0.8, {"below"}),
        (0.2, 0.2, {"left of", "above"}),
        (0.5, 0.5, set()),
    ],
)
def test_relations_are_read_from_the_centres(x: float, y: float, held: set[str]):
    assert relations(Shape("star", "red", 0.1, x, y), Shape("cross", "red", 0.1, 0.5, 0.5)) == held


def test_relation_needs_an_offset_that_grows_with_the_shapes():
    near = (Shape("star", "red", 0.2, 0.4, 0.5), Shape("cross", "red", 0.2, 0.5, 0.5))
    # An offset of 0.10 less 0.1 * (0.4 + 0.4) leaves 0.02: a fifth of it, below a half.
    assert relations(*near) == set()


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"task 'shape' is unknown; choose one of single_object"):
        sample_prompt("shape", rng_for(0, 0))
    with pytest.raises(ValueError, match=r"kind 'ring' is unknown; choose one of circle"):
        encode_class("ring", "red", 1)
    with pytest.raises(ValueError, match=r"color 'pink' is unknown; choose one of red"):
        encode_class("star", "pink", 1)


@pytest.mark.parametrize("count", [0, 7])
def test_counts_out_of_range_are_refused(count: int):
    with pytest.raises(ValueError, match=f"count {count} is out of range; it must be 1 to 6"):
        encode_class("star", "red", count)
    with pytest.raises(
        ValueError, match=f"ask for {count} shapes in total, but a scene has 1 to 6"
    ):
        Prompt("counting", "many stars", (Request("star", None, count),))


@pytest.mark.parametrize("label", [-1, 180])
def test_labels_out_of_range_are_refused(label: int):
    with pytest.raises(ValueError, match=f"label {label} is out of range; it must be 0 to 179"):
        decode_class(label)

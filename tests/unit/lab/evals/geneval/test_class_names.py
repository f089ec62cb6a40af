import pytest

from harope.lab.evals.geneval.class_names import CLASS_NAMES, class_names
from support.judge import RESPELLED


def test_the_eighty_classes_are_in_the_order_of_coco():
    assert len(CLASS_NAMES) == 80
    assert [CLASS_NAMES[place] for place in (0, 39, 62, 64, 79)] == [
        "person", "bottle", "tv", "computer mouse", "toothbrush",
    ]  # fmt: skip


def test_other_spellings_are_the_same_classes():
    labels = {i: RESPELLED.get(name, name) for i, name in enumerate(CLASS_NAMES)}
    assert class_names(labels, "model") == dict(enumerate(CLASS_NAMES))


def test_labels_besides_are_left_out():
    labels = {**dict(enumerate(["N/A", *CLASS_NAMES])), 81: "sky-other-merged"}
    assert class_names(labels, "model")[1] == "person"
    assert not {0, 81} & set(class_names(labels, "model"))


def test_a_model_without_a_class_is_refused():
    labels = {i: name for i, name in enumerate(CLASS_NAMES) if name != "computer mouse"}
    with pytest.raises(ValueError, match=r"model has no label for 1 of .* first 'computer mouse'"):
        class_names(labels, "model")

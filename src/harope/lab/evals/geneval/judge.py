"""GenEval's verdict on one picture (Ghosh et al. 2023, arXiv 2310.11513).

The rules of `evaluation/evaluate_images.py` of github.com/djghosh13/geneval, apart from the
networks that find objects and name colours.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, UInt8

from harope.lab.evals.geneval.class_names import CLASS_NAMES
from harope.lab.evals.local_models import ModelInfo

COLORS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white",
)  # fmt: skip


class Detection(NamedTuple):
    """One object that was found."""

    name: str
    """Its class, by GenEval's name."""
    score: float
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels; right and bottom are outside."""
    mask: Bool[np.ndarray, "height width"] | None = None
    """Which pixels are its; None: all of the box."""


@runtime_checkable
class Detector(Protocol):
    """A network that finds objects."""

    used: ModelInfo

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], min_score: float
    ) -> list[list[Detection]]:
        """The objects in each RGB image with more than that score, in any order."""
        ...


@runtime_checkable
class ColorClassifier(Protocol):
    """A network that names colours."""

    used: ModelInfo

    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"], objects: Sequence[Detection], name: str
    ) -> list[str]:
        """One of COLORS for each of these objects of one class."""
        ...


@dataclass(frozen=True, kw_only=True)
class GenEvalRules:
    """The official numbers."""

    threshold: float = 0.3
    """An object counts above this score."""
    counting_threshold: float = 0.9
    """The same for prompts that ask for a number."""
    max_objects: int = 16
    """The best of each class that are kept."""
    position_threshold: float = 0.1
    """An offset must exceed this share of both boxes' sizes."""


class Verdict(NamedTuple):
    """Whether a picture shows what was asked for, and else why not, a line per reason."""

    correct: bool
    reason: str


Objects = dict[str, list[Detection]]
"""By class, the best first."""


def confidence(tag: str, rules: GenEvalRules) -> float:
    """The score above which objects count for prompts of a task."""
    return rules.counting_threshold if tag == "counting" else rules.threshold


def select_objects(detections: Iterable[Detection], tag: str, rules: GenEvalRules) -> Objects:
    """The objects that count, of classes in GenEval's order."""
    counted = [one for one in detections if one.score > confidence(tag, rules)]
    counted.sort(key=lambda one: -one.score)
    kept = {
        name: [one for one in counted if one.name == name][: rules.max_objects]
        for name in CLASS_NAMES
    }
    return {name: objects for name, objects in kept.items() if objects}


def judge(
    objects: Objects,
    metadata: Mapping[str, Any],
    colors_of: Callable[[Sequence[Detection], str], list[str]],
    rules: GenEvalRules,
) -> Verdict:
    """Every clause of include must hold, and none of exclude.

    Of each included class only the best `count` objects are looked at. A position is asked of all
    of them against all objects of the earlier clause; colours only where enough were found.
    """
    reasons: list[str] = []
    groups: list[Sequence[Detection] | None] = []
    for clause in metadata.get("include", []):
        found = objects.get(clause["class"], [])[: clause["count"]]
        reason = _count_fault(found, clause) or _color_fault(found, clause, colors_of)
        reason = reason or _position_fault(found, clause, groups, rules)
        groups.append(None if reason else found)
        reasons += [reason] if reason else []
    for clause in metadata.get("exclude", []):
        name, count = clause["class"], len(objects.get(clause["class"], []))
        if count >= clause["count"]:
            reasons.append(f"expected {name}<{clause['count']}, found {count}")
    return Verdict(not reasons, "\n".join(reasons))


def relative_position(one: Detection, other: Detection, rules: GenEvalRules) -> list[str]:
    """Where one object is from another, by at most two words; none where they overlap too much.

    With the offset d of the centres and the sizes s of both boxes, per axis
    d' = sign(d) max(|d| - threshold (s_1 + s_2), 0); a word is said where |d'| / ||d|| > 0.5.
    """
    boxes = np.array([one.box, other.box], np.float64).reshape(2, 2, 2)
    offset = boxes[0].mean(0) - boxes[1].mean(0)
    slack = rules.position_threshold * np.abs(boxes[:, 1] - boxes[:, 0]).sum(0)
    rest = np.maximum(np.abs(offset) - slack, 0) * np.sign(offset)
    if np.all(np.abs(rest) < 1e-3):
        return []
    x, y = rest / np.linalg.norm(offset)
    said = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return [word for word, holds in said.items() if holds]


def _count_fault(found: Sequence[Detection], clause: Mapping[str, Any]) -> str | None:
    if len(found) < clause["count"]:
        return f"expected {clause['class']}>={clause['count']}, found {len(found)}"
    return None


def _color_fault(
    found: Sequence[Detection],
    clause: Mapping[str, Any],
    colors_of: Callable[[Sequence[Detection], str], list[str]],
) -> str | None:
    if "color" not in clause:
        return None
    name, color, count = clause["class"], clause["color"], clause["count"]
    colors = colors_of(found, name)
    if colors.count(color) >= count:
        return None
    seen = ", ".join(f"{colors.count(c)} {c}" for c in COLORS if c in colors)
    right = f"{colors.count(color)} {color}"
    return f"expected {color} {name}>={count}, found {right}; and {seen}"


def _position_fault(
    found: Sequence[Detection],
    clause: Mapping[str, Any],
    groups: Sequence[Sequence[Detection] | None],
    rules: GenEvalRules,
) -> str | None:
    if "position" not in clause:
        return None
    name, (wanted, target) = clause["class"], clause["position"]
    others = groups[target]
    if others is None:
        return f"no target for {name} to be {wanted}"
    for one in found:
        for other in others:
            seen = relative_position(one, other, rules)
            if wanted not in seen:
                return f"expected {name} {wanted} target, found {' and '.join(seen)} target"
    return None

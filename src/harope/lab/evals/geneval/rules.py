"""GenEval's verdict on one image (Ghosh et al. 2023, arXiv 2310.11513).

The rules are those of `evaluation/evaluate_images.py` of github.com/djghosh13/geneval. The networks
that detect objects and classify colours are passed in.
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
    """An object that a detector found in an image."""

    name: str
    """GenEval's name of its class."""
    score: float
    """Confidence in [0, 1]."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom in pixels; right and bottom are exclusive."""
    mask: Bool[np.ndarray, "height width"] | None = None
    """Pixels of the object; None for the whole box."""


@runtime_checkable
class Detector(Protocol):
    """A network that finds the objects of an image, with their classes and boxes."""

    info: ModelInfo
    """Identity of the network."""

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], min_score: float
    ) -> list[list[Detection]]:
        """Return the objects in each RGB image with a score above `min_score`, in any order."""
        ...


@runtime_checkable
class ColorClassifier(Protocol):
    """A network that names the colours of objects."""

    info: ModelInfo
    """Identity of the network."""

    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"], objects: Sequence[Detection], name: str
    ) -> list[str]:
        """Return one of COLORS for each of the objects, all of the class `name`."""
        ...


@dataclass(frozen=True, kw_only=True)
class GenEvalRules:
    """Constants of the verdict; the defaults are the official ones."""

    threshold: float = 0.3
    """Objects with a higher score count."""
    counting_threshold: float = 0.9
    """The same for prompts of the task `counting`."""
    max_objects: int = 16
    """Number of objects per class that are considered, those with the highest scores."""
    position_threshold: float = 0.1
    """Fraction of the two boxes' summed size that an offset must exceed."""


class Verdict(NamedTuple):
    """Whether an image shows what its prompt asks for."""

    correct: bool
    reason: str
    """Why not, one line per reason; empty if the image is correct."""


Objects = dict[str, list[Detection]]
"""Detections by class, those with the highest scores first."""


def score_threshold(tag: str, rules: GenEvalRules) -> float:
    """Choose the score above which objects count.

    Args:
        tag: Task of the prompt.
        rules: Both thresholds.

    Returns:
        The threshold, in [0, 1].
    """
    return rules.counting_threshold if tag == "counting" else rules.threshold


def select_objects(detections: Iterable[Detection], tag: str, rules: GenEvalRules) -> Objects:
    """Select the detections that count, by class in GenEval's order.

    Args:
        detections: All objects of an image, in any order.
        tag: Task of the prompt, which decides the threshold.
        rules: Threshold and number of objects per class.

    Returns:
        Objects by class, those with the highest scores first; classes without objects are left out.
    """
    threshold = score_threshold(tag, rules)
    counted = [detection for detection in detections if detection.score > threshold]
    counted.sort(key=lambda detection: -detection.score)
    by_class = {
        name: [detection for detection in counted if detection.name == name][: rules.max_objects]
        for name in CLASS_NAMES
    }
    return {name: objects for name, objects in by_class.items() if objects}


def evaluate_image(
    objects: Objects,
    metadata: Mapping[str, Any],
    colors_of: Callable[[Sequence[Detection], str], list[str]],
    rules: GenEvalRules,
) -> Verdict:
    """Decide whether every `include` clause of a prompt holds, and no `exclude` clause.

    Of each included class only the `count` objects with the highest scores are considered. Each of
    them must have the clause's position relative to every object of the earlier clause. Colours are
    classified only if there are enough objects.

    Args:
        objects: Objects that count, see `select_objects`.
        metadata: The prompt's clauses, see `parse_metadata`.
        colors_of: Maps objects of one class, and its name, to their colours.
        rules: Constants of the verdict.

    Returns:
        The verdict with its reasons.
    """
    reasons: list[str] = []
    groups: list[Sequence[Detection] | None] = []
    for clause in metadata.get("include", []):
        candidates = objects.get(clause["class"], [])[: clause["count"]]
        reason = _count_fault(candidates, clause) or _color_fault(candidates, clause, colors_of)
        reason = reason or _position_fault(candidates, clause, groups, rules)
        groups.append(None if reason else candidates)
        reasons += [reason] if reason else []
    for clause in metadata.get("exclude", []):
        name, count = clause["class"], len(objects.get(clause["class"], []))
        if count >= clause["count"]:
            reasons.append(f"expected {name}<{clause['count']}, found {count}")
    return Verdict(not reasons, "\n".join(reasons))


def relative_position(first: Detection, second: Detection, rules: GenEvalRules) -> list[str]:
    """Describe where the first object is relative to the second.

    With the offset d between the centres and the sizes s_1, s_2 of the boxes, per axis
    d' = sign(d) max(|d| - threshold (s_1 + s_2), 0); a word applies if |d'| / ||d|| > 0.5.

    Args:
        first: The object whose position is described.
        second: The object that it is compared with.
        rules: Fraction of the boxes' summed size that an offset must exceed.

    Returns:
        Up to two of "left of", "right of", "above", "below"; none if the boxes overlap too much.
    """
    boxes = np.array([first.box, second.box], np.float64).reshape(2, 2, 2)
    offset = boxes[0].mean(0) - boxes[1].mean(0)
    slack = rules.position_threshold * np.abs(boxes[:, 1] - boxes[:, 0]).sum(0)
    rest = np.maximum(np.abs(offset) - slack, 0) * np.sign(offset)
    if np.all(np.abs(rest) < 1e-3):
        return []
    x, y = rest / np.linalg.norm(offset)
    words = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return [word for word, applies in words.items() if applies]


def _count_fault(candidates: Sequence[Detection], clause: Mapping[str, Any]) -> str | None:
    if len(candidates) < clause["count"]:
        return f"expected {clause['class']}>={clause['count']}, found {len(candidates)}"
    return None


def _color_fault(
    candidates: Sequence[Detection],
    clause: Mapping[str, Any],
    colors_of: Callable[[Sequence[Detection], str], list[str]],
) -> str | None:
    if "color" not in clause:
        return None
    name, color, count = clause["class"], clause["color"], clause["count"]
    colors = colors_of(candidates, name)
    if colors.count(color) >= count:
        return None
    seen = ", ".join(f"{colors.count(c)} {c}" for c in COLORS if c in colors)
    right = f"{colors.count(color)} {color}"
    return f"expected {color} {name}>={count}, found {right}; and {seen}"


def _position_fault(
    candidates: Sequence[Detection],
    clause: Mapping[str, Any],
    groups: Sequence[Sequence[Detection] | None],
    rules: GenEvalRules,
) -> str | None:
    if "position" not in clause:
        return None
    name, (relation, target) = clause["class"], clause["position"]
    targets = groups[target]
    if targets is None:
        return f"no target for {name} to be {relation}"
    for candidate in candidates:
        for other in targets:
            seen = relative_position(candidate, other, rules)
            if relation not in seen:
                return f"expected {name} {relation} target, found {' and '.join(seen)} target"
    return None

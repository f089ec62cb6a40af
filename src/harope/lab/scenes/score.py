"""Scoring rules: whether a scene satisfies a prompt or a class label.

The rules are GenEval's (Ghosh et al. 2023, arXiv:2310.11513): additional objects are ignored,
except that counting requires the exact number. If a scene has more shapes of a kind than requested,
the largest are judged, where GenEval judges the detections of highest confidence.
"""

from dataclasses import dataclass

from harope.lab.scenes.grammar import (
    CLASS_TASK,
    Prompt,
    Request,
    Scene,
    Shape,
    decode_class,
    relations,
)


@dataclass(frozen=True)
class ClassVerdict:
    """Agreement of a scene with its class label."""

    kind: bool
    """Whether the scene has shapes and all are of the kind."""
    color: bool
    """Whether the scene has shapes and all have the colour."""
    count: bool
    """Whether the scene has the requested number of shapes of any kind and colour."""

    @property
    def exact(self) -> bool:
        """Whether kind, colour and count all agree."""
        return self.kind and self.color and self.count


def judge_class(scene: Scene, label: int) -> ClassVerdict:
    """Compare a scene with a class label.

    Args:
        scene: Scene that was read.
        label: Class label, see `decode_class`.

    Returns:
        Agreement in kind, colour and count.

    Raises:
        ValueError: `label` is out of range.
    """
    kind, color, count = decode_class(label)
    shapes = scene.shapes
    return ClassVerdict(
        kind=bool(shapes) and all(shape.kind == kind for shape in shapes),
        color=bool(shapes) and all(shape.color == color for shape in shapes),
        count=len(shapes) == count,
    )


def satisfies(scene: Scene, prompt: Prompt) -> bool:
    """Return whether a scene satisfies a prompt; see `errors` for the reasons.

    Args:
        scene: Scene that was read.
        prompt: Prompt of the image.

    Returns:
        True if there is no reason against it.
    """
    return not errors(scene, prompt)


def errors(scene: Scene, prompt: Prompt) -> list[str]:
    """List the reasons why a scene does not satisfy a prompt.

    Args:
        scene: Scene that was read.
        prompt: Prompt of the image.

    Returns:
        Reasons; empty if the scene satisfies the prompt.
    """
    judged = [_largest(scene, request) for request in prompt.requests]
    reasons = []
    for request, shapes in zip(prompt.requests, judged, strict=True):
        reasons += _request_errors(scene, request, shapes, prompt.task)
    if prompt.relation:
        reasons += _relation_errors(judged[0], judged[1], prompt.relation)
    if prompt.task == CLASS_TASK:
        kinds = {request.kind for request in prompt.requests}
        others = [shape.kind for shape in scene.shapes if shape.kind not in kinds]
        reasons += [f"expected nothing else, found {kind}" for kind in others]
    return reasons


def _largest(scene: Scene, request: Request) -> list[Shape]:
    shapes = [shape for shape in scene.shapes if shape.kind == request.kind]
    return sorted(shapes, key=lambda shape: -shape.radius)[: request.count]


def _request_errors(scene: Scene, request: Request, shapes: list[Shape], task: str) -> list[str]:
    count = sum(shape.kind == request.kind for shape in scene.shapes)
    exactly = task in ("counting", CLASS_TASK)
    if count < request.count or (exactly and count > request.count):
        sign = "" if exactly else "at least "
        return [f"expected {sign}{request.count} {request.kind}, found {count}"]
    wrong = [shape.color for shape in shapes if request.color not in (None, shape.color)]
    return [f"expected {request.color} {request.kind}, found {color}" for color in wrong]


def _relation_errors(first: list[Shape], second: list[Shape], relation: str) -> list[str]:
    return [
        f"expected {a.kind} {relation} {b.kind}, found {' and '.join(sorted(actual)) or 'neither'}"
        for a in first
        for b in second
        if relation not in (actual := relations(a, b))
    ]

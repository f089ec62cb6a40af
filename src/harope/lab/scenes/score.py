"""Whether a scene that was read satisfies what was asked for.

The rules are GenEval's (Ghosh et al. 2023, arXiv:2310.11513): other objects do no harm, except
that counting asks for an exact number. Where more shapes of a kind are there than asked for, the
largest are judged, as GenEval judges the detections of highest confidence.
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
    """How far a scene is what its class label says."""

    kind: bool
    """At least one shape was read, and all are of the kind."""
    color: bool
    """At least one shape was read, and all have the colour."""
    count: bool
    """As many shapes were read as asked for, whatever they are."""

    @property
    def exact(self) -> bool:
        """All three hold."""
        return self.kind and self.color and self.count


def judge_class(scene: Scene, label: int) -> ClassVerdict:
    """Kind, colour and count of a scene against a class label, each on its own."""
    kind, color, count = decode_class(label)
    shapes = scene.shapes
    return ClassVerdict(
        kind=bool(shapes) and all(shape.kind == kind for shape in shapes),
        color=bool(shapes) and all(shape.color == color for shape in shapes),
        count=len(shapes) == count,
    )


def satisfies(scene: Scene, prompt: Prompt) -> bool:
    """Whether the scene shows what the prompt asks for."""
    return not errors(scene, prompt)


def errors(scene: Scene, prompt: Prompt) -> list[str]:
    """Reasons why the scene does not satisfy the prompt; empty where it does."""
    found = [_largest(scene, request) for request in prompt.requests]
    reasons = []
    for request, shapes in zip(prompt.requests, found, strict=True):
        reasons += _request_errors(scene, request, shapes, prompt.task)
    if prompt.relation:
        reasons += _relation_errors(found[0], found[1], prompt.relation)
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
        f"expected {a.kind} {relation} {b.kind}, found {' and '.join(sorted(held)) or 'neither'}"
        for a in first
        for b in second
        if relation not in (held := relations(a, b))
    ]

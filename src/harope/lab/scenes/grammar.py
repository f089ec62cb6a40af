"""What a scene is, what a prompt asks for, and how both are drawn at random.

The six tasks, their captions and the rule for spatial relations are GenEval's (Ghosh et al. 2023,
arXiv:2310.11513), with flat shapes in place of photographed objects.
"""

from dataclasses import dataclass
from math import hypot
from typing import TypeVar

from numpy.random import PCG64, Generator, SeedSequence

from harope.lab.scenes.layout import sample_centers, sample_radii

KINDS = ("circle", "square", "triangle", "star", "cross")
UNKNOWN = "unknown"
"""The kind of a component that the reader could match with no shape."""

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.12),
    "yellow": (1.00, 0.78, 0.00),
    "green": (0.10, 0.65, 0.20),
    "cyan": (0.00, 0.80, 0.92),
    "blue": (0.10, 0.25, 0.92),
    "purple": (0.66, 0.12, 0.76),
}
"""Red, green and blue in [0, 1]; the background is white."""

MAX_COUNT = 6
NUM_CLASSES = len(KINDS) * len(COLORS) * MAX_COUNT
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
CLASS_TASK = "class"
"""The task of a class prompt: kind, colour and count all hold, and nothing else is there."""

RELATIONS = ("left of", "right of", "above", "below")
RELATION_THRESHOLD = 0.5
_RELATION_SLACK = 0.1
# Drawn scenes keep clear of the threshold, so that a reader's small error does not flip them.
_CLEAR_RELATION = 0.65

_COUNTED = (2, 3, 4)
_NUMERALS = ("one", "two", "three", "four", "five", "six")
_PLURALS = {kind: "crosses" if kind == "cross" else f"{kind}s" for kind in KINDS}
_OPENING = "a picture of"

WORDS = (
    *_OPENING.split(),
    "and",
    *KINDS,
    *_PLURALS.values(),
    *COLORS,
    *_NUMERALS[1:],
    *("left", "right", "above", "below"),
)
"""Every word of every caption, once."""

T = TypeVar("T")


@dataclass(frozen=True)
class Shape:
    """One shape: kind, colour, radius of its circumscribed circle and centre (x right, y down).

    Lengths are fractions of the picture's side, the origin is the upper left corner.
    """

    kind: str
    color: str
    radius: float
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """The shapes of one picture, painted in this order over white."""

    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Request:
    """`count` shapes of a kind, in any colour where `color` is None."""

    kind: str
    color: str | None = None
    count: int = 1


@dataclass(frozen=True)
class Prompt:
    """What is asked for. `relation` says where the first request lies as seen from the second."""

    task: str
    caption: str
    requests: tuple[Request, ...]
    relation: str | None = None

    def __post_init__(self) -> None:
        total = sum(request.count for request in self.requests)
        if not 1 <= total <= MAX_COUNT:
            raise ValueError(
                f"requests ask for {total} shapes but a scene holds 1 to {MAX_COUNT}: "
                "lower their count"
            )


def rng_for(seed: int, index: int) -> Generator:
    """Generator of sample `index` of the stream `seed`, equal in every process and platform."""
    return Generator(PCG64(SeedSequence(seed, spawn_key=(index,))))


def sample_prompt(task: str, rng: Generator) -> Prompt:
    """A random prompt of one of `TASKS`.

    Raises:
        ValueError: `task` is not in `TASKS`.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is not known: choose one of {', '.join(TASKS)}")
    pair = task in ("two_object", "position", "color_attr")
    kinds = _sample_distinct(KINDS, 2 if pair else 1, rng)
    named = task in ("colors", "color_attr")
    colors = _sample_distinct(tuple(COLORS), len(kinds), rng) if named else [None] * len(kinds)
    count = _choice(_COUNTED, rng) if task == "counting" else 1
    relation = _choice(RELATIONS, rng) if task == "position" else None
    requests = tuple(Request(kind, color, count) for kind, color in zip(kinds, colors, strict=True))
    return Prompt(task, _caption(requests, relation), requests, relation)


def sample_scene(prompt: Prompt, rng: Generator) -> Scene:
    """A random scene with exactly the shapes of `prompt`; what it leaves open is drawn at random.

    Gaps and margins of `harope.lab.scenes.layout` are kept, and relations hold with some room.
    """
    wanted = [request for request in prompt.requests for _ in range(request.count)]
    colors = [request.color or _choice(tuple(COLORS), rng) for request in wanted]
    while True:
        radii = sample_radii(len(wanted), rng)
        places = sample_centers(radii, rng)
        shapes = tuple(
            Shape(request.kind, color, radius, x, y)
            for request, color, radius, (x, y) in zip(wanted, colors, radii, places, strict=True)
        )
        if prompt.relation is None or prompt.relation in relations(
            shapes[0], shapes[-1], _CLEAR_RELATION
        ):
            return Scene(shapes)


def relations(first: Shape, second: Shape, threshold: float = RELATION_THRESHOLD) -> set[str]:
    """Where `first` lies as seen from `second`: none, one or two of `RELATIONS`.

    GenEval's rule: the offset of the centres, less a tenth of both boxes per axis, over its full
    length must exceed `threshold` on an axis.
    """
    dx, dy = first.x - second.x, first.y - second.y
    slack = _RELATION_SLACK * 2 * (first.radius + second.radius)
    reach = threshold * hypot(dx, dy) + slack
    held = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}
    return {relation for relation, extent in held.items() if extent > reach}


def encode_class(kind: str, color: str, count: int) -> int:
    """Label in [0, `NUM_CLASSES`) of `count` shapes of one kind and colour; see `decode_class`."""
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is not known: choose one of {', '.join(KINDS)}")
    if color not in COLORS:
        raise ValueError(f"color {color!r} is not known: choose one of {', '.join(COLORS)}")
    if not 1 <= count <= MAX_COUNT:
        raise ValueError(f"count {count} is out of range: it must be 1 to {MAX_COUNT}")
    kind_index, color_index = KINDS.index(kind), list(COLORS).index(color)
    return (kind_index * len(COLORS) + color_index) * MAX_COUNT + count - 1


def decode_class(label: int) -> tuple[str, str, int]:
    """(kind, color, count) of a label; inverse of `encode_class`."""
    if not 0 <= label < NUM_CLASSES:
        raise ValueError(f"label {label} is out of range: it must be 0 to {NUM_CLASSES - 1}")
    rest, count = divmod(label, MAX_COUNT)
    kind_index, color_index = divmod(rest, len(COLORS))
    return KINDS[kind_index], list(COLORS)[color_index], count + 1


def class_prompt(label: int) -> Prompt:
    """The prompt that a class label stands for, such as "a picture of three blue stars"."""
    requests = (Request(*decode_class(label)),)
    return Prompt(CLASS_TASK, _caption(requests, None), requests)


def _caption(requests: tuple[Request, ...], relation: str | None) -> str:
    joint = f" {relation} " if relation else " and "
    return f"{_OPENING} " + joint.join(_phrase(request) for request in requests)


def _phrase(request: Request) -> str:
    single = request.count == 1
    number = "a" if single else _NUMERALS[request.count - 1]
    noun = request.kind if single else _PLURALS[request.kind]
    return " ".join(word for word in (number, request.color, noun) if word)


# Every draw is made from `Generator.random` alone: the plainest part of numpy's stream.
def _choice(options: tuple[T, ...], rng: Generator) -> T:
    return options[int(rng.random() * len(options))]


def _sample_distinct(options: tuple[T, ...], count: int, rng: Generator) -> list[T]:
    left = list(options)
    return [left.pop(int(rng.random() * len(left))) for _ in range(count)]

"""Scenes and prompts: data types, random generation, captions and class labels.

The six tasks, their captions and the rule for spatial relations are GenEval's (Ghosh et al. 2023,
arXiv:2310.11513), with flat shapes instead of photographed objects.
"""

from dataclasses import dataclass
from math import hypot
from typing import TypeVar

from numpy.random import PCG64, Generator, SeedSequence

from harope.lab.scenes.layout import sample_centers, sample_radii

KINDS = ("circle", "square", "triangle", "star", "cross")
"""Kinds of shapes."""
UNKNOWN = "unknown"
"""Kind of a region that matches none of `KINDS`; only the reader produces it."""

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.12),
    "yellow": (1.00, 0.78, 0.00),
    "green": (0.10, 0.65, 0.20),
    "cyan": (0.00, 0.80, 0.92),
    "blue": (0.10, 0.25, 0.92),
    "purple": (0.66, 0.12, 0.76),
}
"""Red, green and blue in [0, 1] by name; the background is white."""

MAX_COUNT = 6
"""Largest number of shapes in a scene."""
NUM_CLASSES = len(KINDS) * len(COLORS) * MAX_COUNT
"""Number of class labels: every kind in every colour, 1 to `MAX_COUNT` times."""
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""GenEval's tasks."""
CLASS_TASK = "class"
"""Task of class prompts: kind, colour and count must be right, and no other shapes present."""

RELATIONS = ("left of", "right of", "above", "below")
"""Spatial relations of the first shape to the second."""
RELATION_THRESHOLD = 0.5
"""Threshold of GenEval's rule, see `relations`."""
_RELATION_SLACK = 0.1
# Sampled scenes exceed the threshold by a margin, so that small reading errors change no relation.
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
"""All words that occur in captions, without repetition."""

T = TypeVar("T")


@dataclass(frozen=True)
class Shape:
    """A shape of a scene.

    Lengths are fractions of the image side; the origin is the upper left corner.
    """

    kind: str
    """One of `KINDS`, or `UNKNOWN` in a reading."""
    color: str
    """Name of the colour, a key of `COLORS`."""
    radius: float
    """Radius of the circumscribed circle."""
    x: float
    """Centre, from left to right."""
    y: float
    """Centre, from top to bottom."""


@dataclass(frozen=True)
class Scene:
    """The shapes of an image, painted over white."""

    shapes: tuple[Shape, ...]
    """Shapes in the order of painting."""


@dataclass(frozen=True)
class Request:
    """A request for a number of shapes of one kind."""

    kind: str
    """One of `KINDS`."""
    color: str | None = None
    """Name of the colour; None for any."""
    count: int = 1
    """Number of shapes."""


@dataclass(frozen=True)
class Prompt:
    """A prompt: its caption, and the shapes that it requests."""

    task: str
    """One of `TASKS`, or `CLASS_TASK`."""
    caption: str
    """Text for text-to-image models."""
    requests: tuple[Request, ...]
    """Requested shapes, 1 to `MAX_COUNT` in total."""
    relation: str | None = None
    """Position of the first request relative to the second, one of `RELATIONS`; None for any."""

    def __post_init__(self) -> None:
        total = sum(request.count for request in self.requests)
        if not 1 <= total <= MAX_COUNT:
            raise ValueError(
                f"requests ask for {total} shapes in total, but a scene has 1 to {MAX_COUNT}; "
                f"adjust their counts"
            )


def rng_for(seed: int, index: int) -> Generator:
    """Create the random generator of one sample, equal in all processes and on all platforms.

    Args:
        seed: Seed of the stream of samples.
        index: Index of the sample in the stream.

    Returns:
        Generator, independent of those of other seeds and indices.
    """
    return Generator(PCG64(SeedSequence(seed, spawn_key=(index,))))


def sample_prompt(task: str, rng: Generator) -> Prompt:
    """Sample a random prompt.

    Args:
        task: One of `TASKS`.
        rng: Random generator.

    Returns:
        Prompt of the task, with its caption.

    Raises:
        ValueError: `task` is unknown.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is unknown; choose one of {', '.join(TASKS)}")
    pair = task in ("two_object", "position", "color_attr")
    kinds = _sample_distinct(KINDS, 2 if pair else 1, rng)
    named = task in ("colors", "color_attr")
    colors = _sample_distinct(tuple(COLORS), len(kinds), rng) if named else [None] * len(kinds)
    count = _choice(_COUNTED, rng) if task == "counting" else 1
    relation = _choice(RELATIONS, rng) if task == "position" else None
    requests = tuple(Request(kind, color, count) for kind, color in zip(kinds, colors, strict=True))
    return Prompt(task, _caption(requests, relation), requests, relation)


def sample_scene(prompt: Prompt, rng: Generator) -> Scene:
    """Sample a random scene with exactly the requested shapes.

    Sizes, positions and unspecified colours are random. Shapes keep the gaps and margins of
    `harope.lab.scenes.layout`, and a relation holds with a margin.

    Args:
        prompt: Requested shapes and their relation.
        rng: Random generator.

    Returns:
        Scene that satisfies the prompt.
    """
    requests = [request for request in prompt.requests for _ in range(request.count)]
    colors = [request.color or _choice(tuple(COLORS), rng) for request in requests]
    while True:
        radii = sample_radii(len(requests), rng)
        centers = sample_centers(radii, rng)
        shapes = tuple(
            Shape(request.kind, color, radius, x, y)
            for request, color, radius, (x, y) in zip(requests, colors, radii, centers, strict=True)
        )
        if prompt.relation is None or prompt.relation in relations(
            shapes[0], shapes[-1], _CLEAR_RELATION
        ):
            return Scene(shapes)


def relations(first: Shape, second: Shape, threshold: float = RELATION_THRESHOLD) -> set[str]:
    """Return the relations of `first` to `second`.

    GenEval's rule: a relation holds if the offset of the centres along its axis, minus a tenth of
    the extents of both bounding boxes, exceeds `threshold` times the length of the offset.

    Args:
        first: Shape whose position is described.
        second: Shape of reference.
        threshold: Minimum ratio of the reduced offset to its length.

    Returns:
        None, one or two of `RELATIONS`.
    """
    dx, dy = first.x - second.x, first.y - second.y
    slack = _RELATION_SLACK * 2 * (first.radius + second.radius)
    minimum = threshold * hypot(dx, dy) + slack
    offsets = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}
    return {relation for relation, offset in offsets.items() if offset > minimum}


def encode_class(kind: str, color: str, count: int) -> int:
    """Return the class label of a number of shapes of one kind and colour.

    Args:
        kind: One of `KINDS`.
        color: Name of the colour, a key of `COLORS`.
        count: Number of shapes, 1 to `MAX_COUNT`.

    Returns:
        Label in [0, `NUM_CLASSES`); see `decode_class` for the inverse.

    Raises:
        ValueError: An argument is unknown or out of range.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; choose one of {', '.join(KINDS)}")
    if color not in COLORS:
        raise ValueError(f"color {color!r} is unknown; choose one of {', '.join(COLORS)}")
    if not 1 <= count <= MAX_COUNT:
        raise ValueError(f"count {count} is out of range; it must be 1 to {MAX_COUNT}")
    kind_index, color_index = KINDS.index(kind), list(COLORS).index(color)
    return (kind_index * len(COLORS) + color_index) * MAX_COUNT + count - 1


def decode_class(label: int) -> tuple[str, str, int]:
    """Return kind, colour and count of a class label; the inverse of `encode_class`.

    Args:
        label: Label in [0, `NUM_CLASSES`).

    Returns:
        Kind, colour and count.

    Raises:
        ValueError: `label` is out of range.
    """
    if not 0 <= label < NUM_CLASSES:
        raise ValueError(f"label {label} is out of range; it must be 0 to {NUM_CLASSES - 1}")
    rest, count = divmod(label, MAX_COUNT)
    kind_index, color_index = divmod(rest, len(COLORS))
    return KINDS[kind_index], list(COLORS)[color_index], count + 1


def class_name(label: int) -> str:
    """Return the name of a class label, such as "three blue stars" or "a red circle".

    Args:
        label: Label in [0, `NUM_CLASSES`).

    Returns:
        The name, which no other class has.

    Raises:
        ValueError: `label` is out of range.
    """
    return _phrase(Request(*decode_class(label)))


def class_prompt(label: int) -> Prompt:
    """Return the prompt of a class label, such as "a picture of three blue stars".

    Args:
        label: Label in [0, `NUM_CLASSES`).

    Returns:
        Prompt of the task `class`.

    Raises:
        ValueError: `label` is out of range.
    """
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


# Only `Generator.random` is used: its stream is the least likely to change with numpy.
def _choice(options: tuple[T, ...], rng: Generator) -> T:
    return options[int(rng.random() * len(options))]


def _sample_distinct(options: tuple[T, ...], count: int, rng: Generator) -> list[T]:
    remaining = list(options)
    return [remaining.pop(int(rng.random() * len(remaining))) for _ in range(count)]

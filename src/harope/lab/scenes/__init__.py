"""The built-in benchmark: images of counted, coloured and positioned shapes, and their reader."""

from harope.lab.scenes.ceiling import Ceiling, measure_ceiling
from harope.lab.scenes.grammar import (
    COLORS,
    KINDS,
    MAX_COUNT,
    NUM_CLASSES,
    TASKS,
    UNKNOWN,
    WORDS,
    Prompt,
    Request,
    Scene,
    Shape,
    class_prompt,
    decode_class,
    encode_class,
    rng_for,
    sample_prompt,
    sample_scene,
)
from harope.lab.scenes.reader import read, read_batch
from harope.lab.scenes.render import render
from harope.lab.scenes.score import ClassVerdict, errors, judge_class, satisfies

__all__ = [
    "COLORS",
    "KINDS",
    "MAX_COUNT",
    "NUM_CLASSES",
    "TASKS",
    "UNKNOWN",
    "WORDS",
    "Ceiling",
    "ClassVerdict",
    "Prompt",
    "Request",
    "Scene",
    "Shape",
    "class_prompt",
    "decode_class",
    "encode_class",
    "errors",
    "judge_class",
    "measure_ceiling",
    "read",
    "read_batch",
    "render",
    "rng_for",
    "sample_prompt",
    "sample_scene",
    "satisfies",
]

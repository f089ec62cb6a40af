"""The built-in benchmark: pictures of counted, coloured and placed shapes, and their reader."""

from harope.scenes.grammar import (
    COLORS,
    KINDS,
    MAX_COUNT,
    NUM_CLASSES,
    TASKS,
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
from harope.scenes.render import render

__all__ = [
    "COLORS",
    "KINDS",
    "MAX_COUNT",
    "NUM_CLASSES",
    "TASKS",
    "Prompt",
    "Request",
    "Scene",
    "Shape",
    "class_prompt",
    "decode_class",
    "encode_class",
    "render",
    "rng_for",
    "sample_prompt",
    "sample_scene",
]

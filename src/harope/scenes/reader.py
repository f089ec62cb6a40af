"""Reads a picture back into its scene, from the pixels alone."""

import torch
from jaxtyping import Float
from torch import Tensor

from harope.scenes.grammar import UNKNOWN, Scene, Shape
from harope.scenes.matching import match_shape
from harope.scenes.segment import Part, find_parts

MIN_QUALITY = 0.9
MIN_RADIUS = 0.06


def read(image: Float[Tensor, "3 size size"]) -> Scene:
    """The scene that an RGB picture in [0, 1] shows; see `read_batch`."""
    return read_batch(image[None])[0]


def read_batch(images: Float[Tensor, "batch 3 size size"]) -> list[Scene]:
    pixels = images.detach().permute(0, 2, 3, 1).to("cpu", torch.float32)
    return [
        Scene(tuple(_shape(part, len(image)) for part in find_parts(image)))
        for image in pixels.numpy()
    ]


def _shape(part: Part, size: int) -> Shape:
    match = match_shape(torch.from_numpy(part.alpha))
    known = match.quality >= MIN_QUALITY * part.clarity and match.radius >= MIN_RADIUS * size
    return Shape(
        kind=match.kind if known else UNKNOWN,
        color=part.color,
        radius=match.radius / size,
        x=(match.x + part.left) / size,
        y=(match.y + part.top) / size,
    )

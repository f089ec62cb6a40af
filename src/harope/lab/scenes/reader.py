"""Reads a picture back into its scene, from the pixels alone.

Regions are found by their distance from a light background and told apart by colour
(`segment`), then matched with soft templates of the five kinds (`matching`).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from harope.lab.scenes.grammar import UNKNOWN, Scene, Shape
from harope.lab.scenes.matching import match_shape
from harope.lab.scenes.segment import Part, find_parts

MIN_QUALITY = 0.94
"""Cosine with the best template below which a region is `UNKNOWN`.

Drawn shapes reach 0.99. Rings, half discs, bars, ellipses twice as long as wide, upside-down
triangles and shapes run together stay below.
"""

MIN_RADIUS = 0.06
"""About half the smallest drawn radius. Smaller regions are `UNKNOWN`: all kinds look alike."""

READING_SIZE = 64
"""Pixels a side that tell the kinds apart with ease; more cost time and add nothing."""


def read(image: Float[Tensor, "3 size size"]) -> Scene:
    """The scene that one picture shows; see `read_batch`."""
    return read_batch(image[None])[0]


def read_batch(images: Float[Tensor, "batch 3 size size"]) -> list[Scene]:
    """The scenes that RGB pictures in [0, 1] show, read one by one on the CPU.

    A region that no template fits is a shape of kind `UNKNOWN`; specks are ignored, and a
    picture without background has no shapes. Pictures of twice `READING_SIZE` and more are
    averaged down to it.

    Raises:
        ValueError: a picture holds NaN or infinity.
    """
    pixels = images.detach().to("cpu", torch.float32)
    if not pixels.isfinite().all():
        raise ValueError("images hold NaN or infinity: only finite pixels in [0, 1] can be read")
    if pixels.shape[-1] >= 2 * READING_SIZE:
        pixels = adaptive_avg_pool2d(pixels, READING_SIZE)
    return [
        Scene(tuple(_shape(part, len(image)) for part in find_parts(image)))
        for image in pixels.clamp(0, 1).permute(0, 2, 3, 1).numpy()
    ]


def _shape(part: Part, size: int) -> Shape:
    match = match_shape(torch.from_numpy(part.alpha))
    fits = match.quality >= MIN_QUALITY * part.clarity and match.radius >= MIN_RADIUS * size
    return Shape(
        kind=match.kind if fits else UNKNOWN,
        color=part.color,
        radius=match.radius / size,
        x=(match.x + part.left) / size,
        y=(match.y + part.top) / size,
    )

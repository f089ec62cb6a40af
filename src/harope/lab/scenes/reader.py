"""Reader that recovers the scene of an image from its pixels.

Regions are segmented by their contrast to a light background and by their colour (`segment`), then
matched with soft templates of the five kinds (`matching`).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from harope.lab.scenes.grammar import UNKNOWN, Scene, Shape
from harope.lab.scenes.matching import match_shape
from harope.lab.scenes.segment import Part, find_parts

MIN_QUALITY = 0.94
"""Minimum cosine similarity with the best template; below it, a region is `UNKNOWN`.

Rendered shapes reach 0.99. Rings, half discs, bars, ellipses twice as long as wide, upside-down
triangles and merged shapes stay below.
"""

MIN_RADIUS = 0.06
"""Minimum radius as a fraction of the image side, about half the smallest radius of a sampled
scene. Smaller regions are `UNKNOWN`, because all kinds look alike at that size."""

READING_SIZE = 64
"""Image side to which large images are reduced; more pixels do not improve the reading."""


def read(image: Float[Tensor, "3 size size"]) -> Scene:
    """Read the scene of one image; see `read_batch`.

    Args:
        image: RGB image in [0, 1].

    Returns:
        Scene with the shapes that were found.

    Raises:
        ValueError: The image contains NaN or infinity.
    """
    return read_batch(image[None])[0]


def read_batch(images: Float[Tensor, "batch 3 size size"]) -> list[Scene]:
    """Read the scenes of images, one by one on the CPU.

    A region that matches no template is a shape of kind `UNKNOWN`; specks are ignored, and an image
    without background has no shapes. Images with a side of at least twice `READING_SIZE` are
    averaged down to `READING_SIZE`.

    Args:
        images: RGB images in [0, 1].

    Returns:
        One scene per image, with colours from `COLORS`.

    Raises:
        ValueError: An image contains NaN or infinity.
    """
    pixels = images.detach().to("cpu", torch.float32)
    if not pixels.isfinite().all():
        raise ValueError("images contain NaN or infinity; the reader needs finite pixels in [0, 1]")
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

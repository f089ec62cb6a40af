"""Tensors in [-1, 1] to PNG files."""

import math
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from harope._utils.atomic import atomic_path


def to_uint8(
    images: Float[Tensor, "batch channels height width"],
) -> UInt8[Tensor, "batch height width rgb"]:
    """Images in [-1, 1] as bytes, channels last: one channel is repeated, three are kept.

    Of other inputs, such as latents, the first three channels are shown.
    """
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]
    scaled = (images.float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def save_png(image: UInt8[Tensor, "height width rgb"], path: Path) -> None:
    """Write one picture, beside and then renamed, so that a file that exists is whole."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(image.numpy()).save(temporary, format="png")


def grid_columns(count: int) -> int:
    """Columns of a grid about as wide as high."""
    return math.ceil(math.sqrt(count))


def save_grid(
    images: Float[Tensor, "batch channels height width"],
    path: Path,
    *,
    columns: int | None = None,
    scale: int = 2,
    gap: int = 2,
) -> None:
    """Write images in [-1, 1] as one PNG, row by row, each pixel `scale` wide, on grey."""
    columns = columns or grid_columns(len(images))
    pixels = to_uint8(images).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    _, height, width, _ = pixels.shape
    rows = math.ceil(len(images) / columns)
    sheet = torch.full(
        (rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 200, dtype=torch.uint8
    )
    for index, image in enumerate(pixels):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    save_png(sheet, path)

"""Reading of image files as tensors, and writing them as one grid."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harope.lab.data.image_io import read_rgb, save_grid


def read_images(paths: Sequence[Path]) -> Float[Tensor, "batch 3 height width"]:
    """Read RGB images of one size, with values in [0, 1].

    Args:
        paths: Image files.

    Returns:
        Images in the order of the files.

    Raises:
        ValueError: An image cannot be read, or its size differs from that of the first.
    """
    images = []
    for path in paths:
        images.append(read_rgb(path))
        if images[-1].shape != images[0].shape:
            raise ValueError(
                f"image {path} has the shape {images[-1].shape}, the first has "
                f"{images[0].shape}: use images of one size"
            )
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def write_image_grid(paths: Sequence[Path], out: Path, *, columns: int | None = None) -> None:
    """Write image files as a grid in one PNG.

    Args:
        paths: Image files of one size.
        out: PNG file to write.
        columns: Number of images per row; None for a grid that is nearly square.

    Raises:
        ValueError: An image cannot be read, or its size differs from that of the first.
    """
    save_grid(read_images(paths) * 2 - 1, out, columns=columns)

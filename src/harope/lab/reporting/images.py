"""Picture files as tensors and as contact sheets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from harope.lab.data.image_io import save_grid


def read_pictures(paths: Sequence[Path]) -> Float[Tensor, "batch 3 height width"]:
    """Pictures of one size, in [0, 1].

    Raises ValueError naming the file that cannot be read or has another size.
    """
    images = []
    for path in paths:
        try:
            with Image.open(path) as file:
                images.append(np.asarray(file.convert("RGB")))
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(f"picture {path} cannot be read: {error}") from None
        if images[-1].shape != images[0].shape:
            raise ValueError(
                f"picture {path} has the shape {images[-1].shape}, the first has "
                f"{images[0].shape}: score folders of one size"
            )
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def grid_of_files(paths: Sequence[Path], out: Path, *, columns: int | None = None) -> None:
    """Write pictures as one PNG."""
    save_grid(read_pictures(paths) * 2 - 1, out, columns=columns)

"""Image files: finding them, reading them, and making them square."""

import os
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from harope._utils.rng import isolated_torch_rng

if TYPE_CHECKING:
    from PIL.Image import Image

    Crop: TypeAlias = Callable[[Image, int], Image]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")
"""Endings of the files that count as images, in either case."""

Fit: TypeAlias = Literal["crop", "pad"]
"""How a picture becomes square: its centre is cut out, or white is added around it."""


def find_images(root: Path, folder: str = "") -> Iterator[bytes]:
    """Paths, from ``root``, of the images in a folder of it and the folders inside that one."""
    for entry in visible(root / folder):
        path = os.path.join(folder, entry.name)
        if entry.name.lower().endswith(EXTENSIONS):
            yield os.fsencode(path)
        elif entry.is_dir():
            yield from find_images(root, path)


def visible(folder: Path) -> Iterator[os.DirEntry]:
    """Entries that are not hidden. Their type comes with the listing: no file is looked up."""
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def read_image(
    path: str | Path, size: int, crop: "Crop | None" = None
) -> Float32[Tensor, "3 {size} {size}"]:
    """An image file as RGB in [-1, 1], by default cropped to its centre; transparency is left out.

    ValueError naming a damaged file.
    """
    from PIL import Image

    try:
        with Image.open(path) as file:
            return _as_tensor((crop or center_crop)(file.convert("RGB"), size))
    except Exception as error:
        raise _unreadable(path, error) from error


def read_image_on_white(
    file: str | Path | BytesIO, size: int, fit: Fit = "crop", name: str | None = None
) -> Float32[Tensor, "3 {size} {size}"]:
    """An image as RGB in [-1, 1], what is transparent white, made square by ``fit``.

    ValueError naming the path, or ``name``, of a damaged file.
    """
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = _on_white(opened)
        return _as_tensor((center_crop if fit == "crop" else pad_square)(image, size))
    except Exception as error:
        raise _unreadable(name or str(file), error) from error


def center_crop(image: "Image", size: int) -> "Image":
    """The centre square, scaled so that the shorter side is ``size``: as ADM prepares images."""
    image = _scaled(image, size, min(image.size))
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def random_crop(image: "Image", size: int, *, smallest: float, seed: int) -> "Image":
    """A rectangle of random area and shape, resized to (size, size) by bicubic interpolation.

    Area uniform in [smallest, 1] of the image's, width over height log-uniform in [3/4, 4/3]: the
    crop of Inception (Szegedy et al. 2015, arXiv 1409.4842, section 6), drawn by torchvision.
    """
    from PIL.Image import Resampling
    from torchvision.transforms import RandomResizedCrop

    with isolated_torch_rng(seed):
        top, left, height, width = RandomResizedCrop.get_params(
            image, [smallest, 1.0], [3 / 4, 4 / 3]
        )
    box = (left, top, left + width, top + height)
    return image.resize((size, size), Resampling.BICUBIC, box=box)


def pad_square(image: "Image", size: int) -> "Image":
    """The whole picture in the middle of a white square, its longer side scaled to ``size``."""
    from PIL import Image

    image = _scaled(image, size, max(image.size))
    square = Image.new("RGB", (size, size), "white")
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


def _scaled(image: "Image", size: int, side: int) -> "Image":
    """The picture scaled so that what is ``side`` pixels long becomes ``size``.

    Box averages halve the picture while it is at least twice as large, then bicubic interpolation
    does the rest: the preparation of ADM (Dhariwal and Nichol 2021) and the models after it.
    """
    from PIL.Image import Resampling

    while side >= 2 * size:
        image = image.resize((max(image.width // 2, 1), max(image.height // 2, 1)), Resampling.BOX)
        side //= 2
    scale = size / side
    width, height = (max(round(length * scale), 1) for length in image.size)
    return image.resize((width, height), Resampling.BICUBIC)


def _on_white(image: "Image") -> "Image":
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")


def _as_tensor(image: "Image") -> Float32[Tensor, "3 height width"]:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


# Damaged data raises nearly anything: OSError, SyntaxError, struct.error, DecompressionBomb...
def _unreadable(name: str | Path, error: Exception) -> ValueError:
    return ValueError(f"{name} cannot be read as an image ({error}): mend or delete it")

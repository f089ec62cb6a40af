"""Reading, cropping and writing image files."""

import math
import os
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from harope._utils.rng import isolated_torch_rng

if TYPE_CHECKING:
    from PIL.Image import Image

    Crop: TypeAlias = Callable[[Image, int], Image]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")
"""Extensions of files that count as images, compared without regard to case."""

Fit: TypeAlias = Literal["crop", "pad"]
"""How an image becomes square: by a centre crop, or by white padding."""


def find_images(root: Path, folder: str = "") -> Iterator[bytes]:
    """Yield the paths of all images in a folder and its subfolders.

    Args:
        root: Folder that the paths are relative to.
        folder: Folder to search, relative to `root`.

    Yields:
        Paths relative to `root`, in the file system's encoding and in no particular order.
        Hidden files and folders are skipped.
    """
    for entry in visible_entries(root / folder):
        path = os.path.join(folder, entry.name)
        if entry.name.lower().endswith(EXTENSIONS):
            yield os.fsencode(path)
        elif entry.is_dir():
            yield from find_images(root, path)


def visible_entries(folder: Path) -> Iterator[os.DirEntry]:
    """Yield the entries of a folder that are not hidden.

    A directory entry knows its type from the listing, which saves one system call per file.
    """
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def check_image_size(image_size: int) -> None:
    """Raise ValueError if a square image of this size would have no pixels."""
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1, got {image_size}")


def read_image(
    path: str | Path, size: int, crop: "Crop | None" = None
) -> Float32[Tensor, "3 {size} {size}"]:
    """Read an image file as RGB, ignoring transparency.

    Args:
        path: Path of the file.
        size: Height and width of the result in pixels.
        crop: Function that makes the image square; None for `center_crop`.

    Returns:
        The image, with values in [-1, 1].

    Raises:
        ValueError: If the file cannot be decoded.
    """
    from PIL import Image

    try:
        with Image.open(path) as file:
            return _to_tensor((crop or center_crop)(file.convert("RGB"), size))
    except Exception as error:
        raise _decoding_error(path, error) from error


def read_image_on_white(
    file: str | Path | BytesIO, size: int, fit: Fit = "crop", name: str | None = None
) -> Float32[Tensor, "3 {size} {size}"]:
    """Read an image as RGB, composed over a white background where it is transparent.

    Args:
        file: Path of the file, or its content.
        size: Height and width of the result in pixels.
        fit: How the image becomes square.
        name: Name of the image for the error message; None for the path.

    Returns:
        The image, with values in [-1, 1].

    Raises:
        ValueError: If the file cannot be decoded.
    """
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = _on_white(opened)
        return _to_tensor((center_crop if fit == "crop" else pad_square)(image, size))
    except Exception as error:
        raise _decoding_error(name or str(file), error) from error


def center_crop(image: "Image", size: int) -> "Image":
    """Scale the shorter side of an image to `size` and crop the central square, as in ADM."""
    image = _scaled(image, size, min(image.size))
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def random_crop(image: "Image", size: int, *, smallest: float, seed: int) -> "Image":
    """Crop a random rectangle and resize it to a square by bicubic interpolation.

    The area is uniform in [smallest, 1] times the image's area and the ratio of width to height
    log-uniform in [3/4, 4/3], as in Inception's augmentation (Szegedy et al. 2015,
    arXiv:1409.4842, section 6). torchvision samples the rectangle.

    Args:
        image: Image to crop.
        size: Height and width of the result in pixels.
        smallest: Smallest fraction of the area, in (0, 1].
        seed: Seed of the rectangle.
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
    """Scale the longer side of an image to `size` and centre it on a white square."""
    from PIL import Image

    image = _scaled(image, size, max(image.size))
    square = Image.new("RGB", (size, size), "white")
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


def to_uint8(
    images: Float[Tensor, "batch channels height width"],
) -> UInt8[Tensor, "batch height width rgb"]:
    """Convert images in [-1, 1] to 8-bit RGB with channels last, on the CPU.

    A single channel is repeated. Of latents with more than three channels, only the first three
    are shown.
    """
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]
    scaled = (images.float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def save_png(image: UInt8[Tensor, "height width rgb"], path: Path) -> None:
    """Write one image as a PNG file atomically, creating parent folders as needed."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    Image.fromarray(image.numpy()).save(beside, format="png")
    beside.rename(path)


def grid_columns(count: int) -> int:
    """Return the number of columns of a nearly square grid with `count` cells."""
    return math.ceil(math.sqrt(count))


def save_grid(
    images: Float[Tensor, "batch channels height width"],
    path: Path,
    *,
    columns: int | None = None,
    scale: int = 2,
    gap: int = 2,
) -> None:
    """Write images as one PNG grid, row by row on a grey background.

    Args:
        images: Images in [-1, 1].
        path: Path of the PNG file.
        columns: Images per row; None for a nearly square grid.
        scale: Height and width in the file of each image pixel.
        gap: Pixels between images.
    """
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


def _scaled(image: "Image", size: int, side: int) -> "Image":
    """Scale an image so that a length of `side` pixels becomes `size`.

    Box filters halve the image while it is at least twice too large, then bicubic interpolation
    reaches the exact size: the preprocessing of ADM (Dhariwal and Nichol 2021, arXiv:2105.05233).
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
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _to_tensor(image: "Image") -> Float32[Tensor, "3 height width"]:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


# The readers catch Exception because damaged files raise nearly anything: OSError, SyntaxError,
# struct.error, DecompressionBombError and others.
def _decoding_error(name: str | Path, error: Exception) -> ValueError:
    return ValueError(f"{name} cannot be read as an image ({error}): repair or delete it")

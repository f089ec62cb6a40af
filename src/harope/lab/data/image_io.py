"""Reading, cropping and writing image files.

Training, encoding and evaluation read images by `read_rgb`, so that they see the same pixels.
"""

import math
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from harope._utils.atomic import atomic_path
from harope._utils.rng import isolated_torch_rng

if TYPE_CHECKING:
    from PIL.Image import Image

    Crop: TypeAlias = Callable[[Image, int], Image]

T = TypeVar("T")

# EXIF's tag of the orientation; values above 4 exchange height and width.
_ORIENTATION = 0x0112
# TIFF's tags of the bits per sample, and of whether 0 is white (0) or black (1).
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262


def read_image(
    file: str | Path | BytesIO, size: int, crop: "Crop | None" = None, name: str | None = None
) -> Float32[Tensor, "3 {size} {size}"]:
    """Read an image as `read_rgb` does and make it square.

    Args:
        file: Path of the file, or its content.
        size: Height and width of the result in pixels.
        crop: Function that makes the image square; None for `center_crop`.
        name: Name of the image for the error message; None for the path.

    Returns:
        The image, with values in [-1, 1].

    Raises:
        ValueError: As `read_rgb` says.
    """
    return _decode(file, name, lambda image: _to_tensor((crop or center_crop)(image, size)))


def read_rgb(
    file: str | Path | BytesIO, name: str | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Read an image as 8-bit RGB.

    The orientation in its EXIF data is applied. Transparent parts are composed over white.
    Greyscale images of more than 8 bits are scaled so that their largest possible value becomes
    255; floats must lie in [0, 1].

    Args:
        file: Path of the file, or its content.
        name: Name of the image for the error message; None for the path.

    Returns:
        The pixels.

    Raises:
        ValueError: If the file cannot be decoded, has several frames, or has values whose white
            level is unknown: floats outside of [0, 1], and integers that are signed or of 32 bits.
    """
    return _decode(file, name, np.array)


def read_image_size(path: str | Path) -> tuple[int, int]:
    """Read the size of an image from its header.

    Args:
        path: Path of the file.

    Returns:
        Height and width in pixels, after the orientation in its EXIF data is applied.

    Raises:
        ValueError: If the header cannot be decoded.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            # Asking a PNG file without EXIF data for it would decode the pixels.
            may_ask = image.format != "PNG" or {"exif", "Raw profile type exif"} & {*image.info}
            if may_ask and image.getexif().get(_ORIENTATION, 1) > 4:
                ImageOps.exif_transpose(image, in_place=True)
            return image.height, image.width
    except Exception as error:
        raise _decoding_error(path, error) from error


def center_crop(image: "Image", size: int) -> "Image":
    """Scale the shorter side of an image to `size` and crop the central square, as in ADM.

    Args:
        image: Image to crop.
        size: Height and width of the result in pixels.

    Returns:
        The square image.
    """
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

    Returns:
        The square image.
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
    """Scale the longer side of an image to `size` and centre it on a white square.

    Args:
        image: Image to pad.
        size: Height and width of the result in pixels.

    Returns:
        The square image.
    """
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

    Args:
        images: Images in [-1, 1]; values beyond are clipped.

    Returns:
        The pixels.
    """
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]
    scaled = (images.float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def save_png(image: UInt8[Tensor, "height width rgb"], path: Path) -> None:
    """Write one image as a PNG file atomically, creating parent folders as needed.

    Args:
        image: Pixels of the image.
        path: Path of the file.
    """
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(image.numpy()).save(temporary, format="png")


def grid_columns(count: int) -> int:
    """Return the number of columns of a nearly square grid.

    Args:
        count: Number of cells.

    Returns:
        The square root of the count, rounded up.
    """
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


def _decode(file: str | Path | BytesIO, name: str | None, convert: Callable[["Image"], T]) -> T:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return convert(_to_rgb(image))
    # Damaged files raise nearly anything: OSError, SyntaxError, struct.error,
    # DecompressionBombError and others.
    except Exception as error:
        raise _decoding_error(name or str(file), error) from error


def _decoding_error(name: str | Path, error: Exception) -> ValueError:
    return ValueError(f"{name} cannot be read as an image ({error}): repair or delete it")


def _to_rgb(image: "Image") -> "Image":
    """Convert an opened image as `read_rgb` says."""
    from PIL import Image, ImageOps

    # The further frames of a phone's MPO file are views of the same photo.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ValueError(f"it has {frames} frames instead of one")
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _to_8_bits(image: "Image") -> "Image":
    """Scale a greyscale image of more than 8 bits, with its transparent value shown as white."""
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    white = _white_level(image, values)
    if _tiff_tags(image).get(_PHOTOMETRIC) == 0:
        values = white - values
    pixels = np.rint(values * (255 / white)).astype(np.uint8)
    pixels[values == image.info.get("transparency")] = 255
    return Image.fromarray(pixels)


def _white_level(image: "Image", values: np.ndarray) -> int:
    if image.mode == "F":
        # The comparison is false for NaN.
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(
                f"its floats lie in [{values.min():g}, {values.max():g}] instead of [0, 1]"
            )
        return 1
    # Pillow reads 16-bit PNG and PPM files in the 32-bit mode "I" in some versions.
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise ValueError("its integers are signed or of 32 bits, and their white level is unknown")
    bits = _tiff_tags(image).get(_BITS_PER_SAMPLE, (16,))
    return 2 ** bits[0] - 1


def _tiff_tags(image: "Image") -> Mapping[int, Any]:
    return getattr(image, "tag_v2", {})


def _to_tensor(image: "Image") -> Float32[Tensor, "3 height width"]:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1

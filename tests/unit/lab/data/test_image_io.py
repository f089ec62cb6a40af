import numpy as np
import pytest
import torch
from PIL import Image

from harope.lab.data.image_files import EXTENSIONS
from harope.lab.data.image_io import (
    center_crop,
    pad_square,
    read_image,
    read_image_size,
    read_rgb,
)


def random_pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def as_pixels(image):
    return ((image + 1) * 127.5).round().permute(1, 2, 0).to(torch.uint8).numpy()


def as_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def test_grey_images_become_rgb(tmp_path):
    grey = random_pixels(8, 8)[..., 0]
    image = as_pixels(read_image(save(tmp_path / "grey.png", grey), 8))
    np.testing.assert_array_equal(image, as_rgb(grey))


def test_half_transparent_images_are_composed_over_white(tmp_path):
    alpha = random_pixels(8, 8, seed=1)[..., :1]
    pixels = random_pixels(8, 8)
    image = read_rgb(save(tmp_path / "clear.png", np.concatenate([pixels, alpha], axis=2)))
    opacity = alpha / 255
    np.testing.assert_allclose(image, opacity * pixels + (1 - opacity) * 255, rtol=0, atol=0.51)


def test_crop_cuts_out_the_centre():
    pixels = random_pixels(10, 17)
    cropped = center_crop(Image.fromarray(pixels), 10)
    np.testing.assert_array_equal(np.asarray(cropped), pixels[:, 3:13])


def test_crop_averages_boxes_where_sizes_are_powers_of_two_apart():
    pixels = random_pixels(32, 32)
    cropped = np.asarray(center_crop(Image.fromarray(pixels), 8), dtype=np.float64)
    mean = pixels.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))
    # Each of the two halvings rounds to whole bytes twice: along rows, then along columns.
    assert np.abs(cropped - mean).max() <= 4 * 0.5


def test_crop_is_bicubic_below_twice_the_size():
    image = Image.fromarray(random_pixels(15, 30))
    expected = image.resize((20, 10), Image.Resampling.BICUBIC).crop((5, 0, 15, 10))
    np.testing.assert_array_equal(np.asarray(center_crop(image, 10)), np.asarray(expected))


@pytest.mark.parametrize("size", [(5, 9), (64, 7), (33, 100), (8, 8)])
def test_crop_has_the_requested_size_for_small_large_and_narrow_images(size):
    assert center_crop(Image.new("RGB", size), 8).size == (8, 8)


@pytest.mark.parametrize("size", [(5, 9), (64, 7), (33, 100), (8, 8), (300, 1)])
def test_padding_centres_the_image_on_white(size):
    padded = np.asarray(pad_square(Image.new("RGB", size, "black"), 8))
    assert padded.shape == (8, 8, 3)
    rows, columns = np.nonzero(padded[..., 0] < 128)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert max(height, width) == 8
    expected = max(8 * min(size) / max(size), 1)
    assert abs(min(height, width) - expected) <= 0.5
    assert abs(rows.min() - (7 - rows.max())) <= 1
    assert abs(columns.min() - (7 - columns.max())) <= 1


def test_transparent_parts_become_white(tmp_path):
    alpha = np.repeat(np.array([0, 255], dtype=np.uint8), 32).reshape(8, 8)
    pixels = random_pixels(8, 8)
    path = save(tmp_path / "clear.png", np.dstack([pixels, alpha]))
    expected = np.where(alpha[..., None] == 0, 255, pixels)
    np.testing.assert_array_equal(as_pixels(read_image(path, 8)), expected)


def test_a_palette_with_a_transparent_colour_becomes_white_there(tmp_path):
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.paste(1, (0, 0, 4, 8))
    palette.save(tmp_path / "p.png", transparency=0)
    pixels = as_pixels(read_image(tmp_path / "p.png", 8))
    np.testing.assert_array_equal(pixels[:, :4], np.broadcast_to([200, 0, 0], (8, 4, 3)))
    assert (pixels[:, 4:] == 255).all()


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "grey.ppm"])
def test_greys_of_16_bits_are_scaled_by_their_range(tmp_path, name):
    grey = random_pixels(8, 9)[..., 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / name)
    np.testing.assert_array_equal(read_rgb(tmp_path / name), as_rgb(grey))


def test_the_transparent_value_of_a_16_bit_grey_is_white(tmp_path):
    grey = np.array([[0, 257, 514], [257, 65535, 257]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png", transparency=257)
    expected = as_rgb(np.array([[0, 255, 2], [255, 255, 255]], np.uint8))
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.png"), expected)


def test_a_16_bit_tiff_may_store_white_as_zero(tmp_path):
    grey = random_pixels(8, 9)[..., 0]
    inverted = Image.fromarray(65535 - grey.astype(np.uint16) * 257)
    inverted.save(tmp_path / "grey.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.tif"), as_rgb(grey))


def test_floats_from_0_to_1_are_scaled(tmp_path):
    grey = random_pixels(8, 9)[..., 0]
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "grey.tif")
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.tif"), as_rgb(grey))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[0, 300.0]], np.float32), r"its floats lie in \[0, 300\] instead of \[0, 1\]"),
        (np.array([[0, np.nan]], np.float32), "its floats lie in"),
        (np.array([[0, 1]], np.int32), "its integers are signed or of 32 bits"),
    ],
)
def test_values_without_a_known_white_level_are_refused(tmp_path, values, reason):
    Image.fromarray(values).save(tmp_path / "grey.tif")
    with pytest.raises(ValueError, match=rf"grey\.tif cannot be read as an image \({reason}"):
        read_rgb(tmp_path / "grey.tif")


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (4, 3), (0, 255, 255, 0)).save(tmp_path / "red.tif")
    np.testing.assert_array_equal(read_rgb(tmp_path / "red.tif")[0, 0], [255, 0, 0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["photo.png", "photo.tif", "photo.webp"])
def test_exif_orientation_is_applied(tmp_path, orientation, name):
    """The stored image is what the orientation turns into the shown one."""
    shown = random_pixels(6, 10)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(shown)
    stored = image.transpose(undo[orientation]) if orientation in undo else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / name, exif=exif, lossless=True)
    np.testing.assert_array_equal(read_rgb(tmp_path / name), shown)
    assert read_image_size(tmp_path / name) == (6, 10)


def test_a_photo_of_a_phone_is_upright(tmp_path):
    """As `datasets` shows it: red above blue, from pixels that lie on their side."""
    shown = np.zeros((64, 64, 3), np.uint8)
    shown[:32], shown[32:] = (255, 0, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(shown).rotate(90)
    turned.save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    pixels = as_pixels(read_image(tmp_path / "a.jpg", 64)).astype(int)
    assert abs(pixels - shown).max(axis=(1, 2))[[8, 56]].max() <= 4


@pytest.mark.parametrize("name", ["moving.png", "moving.webp", "pages.tif"])
def test_files_of_several_frames_are_refused(tmp_path, name):
    first, second = (Image.fromarray(random_pixels(8, 8, seed)) for seed in (0, 1))
    first.save(tmp_path / name, save_all=True, append_images=[second])
    with pytest.raises(ValueError, match=r"cannot be read as an image \(it has 2 frames"):
        read_rgb(tmp_path / name)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_extension_can_be_read(tmp_path, extension):
    Image.new("RGB", (5, 4), (255, 255, 255)).save(tmp_path / f"white{extension}")
    assert (read_rgb(tmp_path / f"white{extension}") == np.full((4, 5, 3), 255)).all()

import numpy as np
import pytest
import torch
from PIL import Image

from harope.lab.data.image_io import center_crop, pad_square, read_image, read_image_on_white


def random_pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def as_pixels(image):
    return ((image + 1) * 127.5).round().permute(1, 2, 0).to(torch.uint8).numpy()


def test_grey_and_transparent_images_become_rgb(tmp_path):
    grey = random_pixels(8, 8)[..., 0]
    image = as_pixels(read_image(save(tmp_path / "grey.png", grey), 8))
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))
    clear = np.dstack([random_pixels(8, 8), grey])
    image = as_pixels(read_image(save(tmp_path / "clear.png", clear), 8))
    np.testing.assert_array_equal(image, random_pixels(8, 8))


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
    np.testing.assert_array_equal(as_pixels(read_image_on_white(path, 8)), expected)


def test_a_palette_with_a_transparent_colour_becomes_white_there(tmp_path):
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.paste(1, (0, 0, 4, 8))
    palette.save(tmp_path / "p.png", transparency=0)
    pixels = as_pixels(read_image_on_white(tmp_path / "p.png", 8))
    np.testing.assert_array_equal(pixels[:, :4], np.broadcast_to([200, 0, 0], (8, 4, 3)))
    assert (pixels[:, 4:] == 255).all()


def test_opaque_images_are_read_alike_on_white_or_not(tmp_path):
    path = save(tmp_path / "rgb.png", random_pixels(20, 13))
    assert torch.equal(read_image_on_white(path, 8), read_image(path, 8))

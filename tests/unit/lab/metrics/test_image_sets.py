import numpy as np
import pytest
from PIL import Image, ImageDraw

from harope.lab.data.image_io import read_image, save_png, to_uint8
from harope.lab.data.left_out import LeftOutWarning
from harope.lab.metrics.compute import compute_features
from harope.lab.metrics.frechet import frechet_distance
from harope.lab.metrics.image_sets import open_images
from support.distance import mean_colour, noise, write_folder


def read(images, batch_size=4):
    return np.concatenate(list(images.batches(batch_size)))


def test_a_folder_is_read_by_sorted_path_with_its_folders(tmp_path):
    images = noise(6)
    write_folder(tmp_path / "b", images[3:], first=3)
    write_folder(tmp_path / "a", images[:3])
    write_folder(tmp_path / ".hidden", noise(1, height=9))
    (tmp_path / "samples.json").write_text("{}")
    found = open_images(tmp_path)
    assert (len(found), found.size) == (6, (6, 5))
    np.testing.assert_array_equal(read(found), images)


def test_shares_in_rank_order_are_the_folder(tmp_path):
    images = noise(7)
    found = open_images(write_folder(tmp_path, images))
    parts = [batch for rank in range(3) for batch in found.batches(2, rank, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), images)


@pytest.mark.parametrize("ending", ["jpg", "webp", "PNG"])
def test_other_formats_are_read(tmp_path, ending):
    Image.new("RGB", (5, 4), "red").save(tmp_path / f"0.{ending}")
    assert read(open_images(tmp_path)).shape == (1, 4, 5, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_other_modes_become_rgb(tmp_path, mode):
    Image.new(mode, (5, 4)).save(tmp_path / "0.png")
    assert read(open_images(tmp_path)).shape == (1, 4, 5, 3)


def test_an_npz_is_opened(tmp_path):
    np.savez(tmp_path / "i.npz", noise(3))
    assert len(open_images(tmp_path / "i.npz")) == 3


def test_the_first_image_of_another_size_is_named(tmp_path):
    write_folder(tmp_path, noise(3))
    write_folder(tmp_path, noise(2, height=8), first=3)
    with pytest.raises(ValueError, match=r"000003\.png is 8 x 5 pixels but 000000\.png is 6 x 5"):
        open_images(tmp_path)


def test_a_file_that_is_no_image_is_an_error_at_once(tmp_path):
    write_folder(tmp_path, noise(3))
    (tmp_path / "broken.png").write_text("hello")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read .* 1 of 4 files"):
        open_images(tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def test_a_file_cut_short_is_an_error_when_it_is_read(tmp_path):
    cut(write_folder(tmp_path, noise(4)) / "000002.png")
    images = open_images(tmp_path)
    with pytest.raises(ValueError, match=r"000002\.png cannot be read"):
        read(images)


def test_damaged_files_up_to_the_share_are_left_out_and_named(tmp_path):
    images = noise(8)
    write_folder(tmp_path, images)
    (tmp_path / "000001.png").write_text("hello")
    cut(tmp_path / "000002.png")
    found = open_images(tmp_path, max_unreadable=0.25)
    np.testing.assert_array_equal(read(found), np.delete(images, [1, 2], axis=0))
    assert found.unreadable == ("000001.png", "000002.png")
    cut(tmp_path / "000005.png")
    with pytest.raises(ValueError, match=r"000005\.png .* 3 of 8 files are damaged, .* 0\.25"):
        read(open_images(tmp_path, max_unreadable=0.25))


def test_reading_twice_counts_a_damaged_file_once(tmp_path):
    cut(write_folder(tmp_path, noise(4)) / "000002.png")
    found = open_images(tmp_path, max_unreadable=0.25)
    assert len(read(found)) == len(read(found)) == 3


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        open_images(tmp_path)


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        open_images(tmp_path / "nowhere")


def test_a_share_of_all_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"max_unreadable 1\.0 must lie in"):
        open_images(write_folder(tmp_path, noise(1)), max_unreadable=1.0)


def test_the_digest_tells_folders_apart(tmp_path):
    one, other = write_folder(tmp_path / "a", noise(3)), write_folder(tmp_path / "b", noise(3))
    assert open_images(one).digest == open_images(other).digest
    write_folder(other, noise(1), first=3)
    assert open_images(one).digest != open_images(other).digest


def test_the_digest_tells_contents_of_one_size_apart(tmp_path):
    folder = write_folder(tmp_path, noise(3))
    before, path = open_images(folder).digest, folder / "000001.png"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert open_images(folder).digest != before


def write_hard_images(folder):
    """Write images whose pixels readers may disagree about, all of 8 x 8 pixels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "alpha.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "grey16.png")
    Image.fromarray(pixels[..., 0].astype(np.float32) / 255).save(folder / "floats.tif")
    Image.fromarray(pixels).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels[..., :3]).save(folder / "plain.bmp")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels[..., :3]).save(folder / "turned.png", exif=exif)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30, 200, 0, 0])
    ImageDraw.Draw(palette).rectangle((0, 0, 3, 7), fill=1)
    palette.save(folder / "palette.png", transparency=0)
    return folder


def test_perfect_samples_have_distance_0_to_the_files_that_training_reads(tmp_path):
    folder = write_hard_images(tmp_path / "data")
    for path in sorted(folder.iterdir()):
        sample = to_uint8(read_image(path, 8)[None])[0]
        save_png(sample, tmp_path / "samples" / f"{path.stem}.png")
    data, samples = open_images(folder), open_images(tmp_path / "samples")
    assert len(data) == len(samples) == 7
    np.testing.assert_array_equal(read(data), read(samples))
    gaussians = [
        compute_features(images, mean_colour()).moments.gaussian() for images in (data, samples)
    ]
    assert frechet_distance(*gaussians) < 1e-12


def test_sizes_are_those_of_upright_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (5, 6)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (6, 5)).save(tmp_path / "upright.jpg")
    images = open_images(tmp_path)
    assert (images.size, read(images).shape) == ((5, 6), (2, 5, 6, 3))


def test_images_that_are_not_read_are_reported(tmp_path):
    write_folder(tmp_path, noise(3))
    (tmp_path / "a.gif").touch()
    with pytest.warns(LeftOutWarning, match=r"1 of 4 are left out: .* the first: a\.gif"):
        assert len(open_images(tmp_path)) == 3

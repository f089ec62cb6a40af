import tracemalloc
import zipfile

import numpy as np
import pytest

from harope._utils.shards import contiguous_shard
from harope.lab.metrics.npz import NpzImages, read_arrays, write_npz
from support.distance import noise


def written(tmp_path, images, part=3):
    parts = [images[i : i + part] for i in range(0, len(images), part)]
    return write_npz(tmp_path / "images.npz", parts, len(images))


def test_numpy_reads_what_was_written(tmp_path):
    images = noise(7)
    with np.load(written(tmp_path, images)) as arrays:
        assert arrays.files == ["arr_0"]
        np.testing.assert_array_equal(arrays["arr_0"], images)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("world_size", [1, 3])
def test_shares_in_rank_order_are_what_numpy_wrote(tmp_path, save, world_size):
    images = noise(11)
    save(tmp_path / "images.npz", images)
    found = NpzImages(tmp_path / "images.npz")
    assert (len(found), found.size) == (11, (6, 5))
    parts = [b for rank in range(world_size) for b in found.batches(2, rank, world_size)]
    np.testing.assert_array_equal(np.concatenate(parts), images)


def test_writing_and_reading_hold_few_images_at_once(tmp_path):
    count, size, batch_size = 400, 64, 8
    batch = noise(batch_size, size, size)
    tracemalloc.start()
    path = write_npz(tmp_path / "i.npz", (batch for _ in range(count // batch_size)), count)
    read = sum(len(part) for part in NpzImages(path).batches(batch_size, rank=1, world_size=2))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == count // 2
    assert peak < count * size * size * 3 / 2


def test_an_error_of_writing_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="batches hold 4 images but count is 5"):
        write_npz(tmp_path / "i.npz", [noise(4)], 5)
    assert list(tmp_path.iterdir()) == []


def test_images_of_another_size_are_not_written(tmp_path):
    with pytest.raises(
        ValueError, match=r"image 2 has shape \(7, 5, 3\) but those before it have \(6, 5"
    ):
        write_npz(tmp_path / "i.npz", [noise(2), noise(2, height=7)], 4)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3, 3, 3), np.float32), np.zeros((2, 3, 3), np.uint8)]
)
def test_an_array_that_is_no_images_is_named(tmp_path, array):
    np.savez(tmp_path / "i.npz", array)
    with pytest.raises(ValueError, match="images must be uint8 of shape"):
        NpzImages(tmp_path / "i.npz")


def test_what_the_file_holds_instead_is_named(tmp_path):
    np.savez(tmp_path / "i.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="has no array arr_0: it has mu, sigma"):
        NpzImages(tmp_path / "i.npz")


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "i.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"i\.npz is not an \.npz file, or is damaged"):
        NpzImages(tmp_path / "i.npz")


@pytest.mark.parametrize("count", [20, 200])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_changed_byte_is_noticed(tmp_path, save, count):
    path = tmp_path / "images.npz"
    save(path, noise(count))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"images\.npz is .* damaged"):
        list(NpzImages(path).batches(64))


def test_a_member_that_ends_early_is_noticed(tmp_path):
    path = tmp_path / "short.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("arr_0.npy", "w") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": (5, 4, 4, 3)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(bytes(100))
    with pytest.raises(ValueError, match="it is truncated"):
        list(NpzImages(path).batches(64))


def test_the_digest_tells_contents_apart(tmp_path):
    first = NpzImages(written(tmp_path, noise(3))).digest
    assert NpzImages(written(tmp_path, noise(3))).digest == first
    assert NpzImages(written(tmp_path, noise(3, seed=1))).digest != first


def test_a_rank_that_does_not_exist_has_no_share():
    with pytest.raises(ValueError, match="rank 2 must lie in"):
        contiguous_shard(10, 2, 2)


def write_array(path, header, chunks, key="arr_0"):
    """Write an array whose header may be wrong, compressed."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{key}.npy", "w") as stream,
    ):
        np.lib.format.write_array_header_1_0(stream, {"fortran_order": False, **header})
        for chunk in chunks:
            stream.write(chunk)
    return path


def zeros(count):
    block = bytes(2**20)
    return (block[: min(2**20, count - start)] for start in range(0, count, 2**20))


@pytest.mark.parametrize(
    ("key", "descr", "shape"),
    [("arr_0", "|u1", (1, 6000, 6000, 3)), ("sigma", "<f8", (4000, 4000))],
)
def test_a_small_file_does_not_take_much_memory(tmp_path, key, descr, shape):
    count = int(np.prod(shape)) * int(descr[-1])
    path = write_array(tmp_path / "i.npz", {"descr": descr, "shape": shape}, zeros(count), key)
    assert path.stat().st_size < 2**18
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=r"i\.npz expands from .* to .* bytes, more than 100 times"
    ):
        _ = NpzImages(path) if key == "arr_0" else read_arrays(path, [key])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    "shape", [(2**40, 2**40, 4, 3), (1, 4, 4, 3), (5, 4, 4, 3), (-2, -4, 4, 3)]
)
def test_a_header_that_claims_another_size_is_refused(tmp_path, shape):
    path = write_array(tmp_path / "i.npz", {"descr": "|u1", "shape": shape}, [bytes(96)])
    with pytest.raises(ValueError, match=r"i\.npz is damaged \(.* but there are 96\)"):
        NpzImages(path)
    with pytest.raises(ValueError, match=r"array arr_0 of .*i\.npz is damaged"):
        read_arrays(path, ["arr_0"])


def test_objects_are_not_read(tmp_path):
    np.savez(tmp_path / "i.npz", np.array([{}], object))
    with pytest.raises(ValueError, match="holds Python objects, which are not read"):
        read_arrays(tmp_path / "i.npz", ["arr_0"])


@pytest.mark.parametrize("content", [b"hello", b"\x93NUMPY\x09\x00", b""])
def test_a_member_that_is_no_array_is_refused(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "i.npz", "w") as archive:
        archive.writestr("arr_0.npy", content)
    with pytest.raises(ValueError, match=r"i\.npz is not an \.npy array"):
        NpzImages(tmp_path / "i.npz")


def test_images_in_fortran_order_are_refused_for_that(tmp_path):
    np.savez(tmp_path / "i.npz", np.asfortranarray(noise(4)))
    with pytest.raises(ValueError, match=r"holds images in Fortran order, .*ascontiguousarray"):
        NpzImages(tmp_path / "i.npz")
    np.testing.assert_array_equal(read_arrays(tmp_path / "i.npz", ["arr_0"])["arr_0"], noise(4))


def test_no_images_are_refused(tmp_path):
    np.savez(tmp_path / "i.npz", np.zeros((0, 4, 4, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"holds no images: its array has the shape \(0, 4, 4, 3\)"
    ):
        NpzImages(tmp_path / "i.npz")

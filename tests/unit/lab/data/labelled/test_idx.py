import gzip
import struct

import numpy as np
import pytest
import torch

from harope.lab.data.labelled.idx import IdxDataset, read_idx

PIXELS = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4) * 11
LABELS = np.array([2, 0, 1], dtype=np.uint8)


def idx_bytes(values, magic=None):
    magic = 0x0800 + values.ndim if magic is None else magic
    return struct.pack(f">I{values.ndim}I", magic, *values.shape) + values.tobytes()


def write(folder, images=None, labels=None, split="train", ending=""):
    pack = gzip.compress if ending else bytes
    images = idx_bytes(PIXELS) if images is None else images
    labels = idx_bytes(LABELS) if labels is None else labels
    (folder / f"{split}-images-idx3-ubyte{ending}").write_bytes(pack(images))
    (folder / f"{split}-labels-idx1-ubyte{ending}").write_bytes(pack(labels))


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_bytes_are_scaled_to_minus_one_to_one(tmp_path, ending):
    write(tmp_path, ending=ending)
    dataset = IdxDataset(tmp_path)
    images, labels = dataset.items([2, 0])
    expected = PIXELS[[2, 0], None].astype(np.float64) / 255 * 2 - 1
    np.testing.assert_allclose(images, expected, atol=1e-6)
    assert labels.tolist() == [1, 2]
    assert (len(dataset), dataset.shape, dataset.num_classes) == (3, (1, 2, 4), 3)


def test_the_test_split_is_read_from_t10k(tmp_path):
    write(tmp_path, split="t10k")
    assert len(IdxDataset(tmp_path, "test")) == 3
    with pytest.raises(FileNotFoundError, match="neither train-images-idx3-ubyte nor"):
        IdxDataset(tmp_path, "train")


def test_padding_puts_background_around(tmp_path):
    write(tmp_path)
    plain, padded = IdxDataset(tmp_path), IdxDataset(tmp_path, pad_to=6)
    images, _ = padded.items(range(3))
    assert padded.shape == (1, 6, 6)
    assert torch.equal(images[:, :, 2:4, 1:5], plain.items(range(3))[0])
    assert images.sum() == plain.items(range(3))[0].sum() - 3 * (36 - 8)


def test_padding_below_the_size_is_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="pad_to 3 is smaller than the images of 2 x 4"):
        IdxDataset(tmp_path, pad_to=3)


def test_different_numbers_of_images_and_labels_are_refused(tmp_path):
    write(tmp_path, labels=idx_bytes(LABELS[:2]))
    with pytest.raises(ValueError, match=r"contains 3 images but .*labels-idx1-ubyte 2 labels"):
        IdxDataset(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (idx_bytes(PIXELS)[:-1], "should contain 24 values .* but contains 23"),
        (idx_bytes(PIXELS) + b"\0", "should contain 24 values .* but contains 25"),
        (idx_bytes(PIXELS, magic=0x0D03), "begins with the bytes '00 00 0d 03'"),
        (idx_bytes(LABELS), "begins with the bytes '00 00 08 01'"),
        (idx_bytes(PIXELS)[:9], "begins with the bytes"),
        (b"", "begins with the bytes ''"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, data, message):
    (tmp_path / "images").write_bytes(data)
    with pytest.raises(ValueError, match=f"images {message}"):
        read_idx(tmp_path / "images", num_axes=3)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(idx_bytes(PIXELS), mtime=0)[:-12],
        b"not packed",
        b"\x1f\x8b" + b"\xff" * 30,
    ],
    ids=["cut", "plain", "noise"],
)
def test_damaged_compressed_files_are_refused_by_name(tmp_path, data):
    (tmp_path / "images.gz").write_bytes(data)
    with pytest.raises(ValueError, match=r"images\.gz cannot be decompressed"):
        read_idx(tmp_path / "images.gz", num_axes=3)


def test_a_file_of_zeros_that_expands_without_measure_is_refused(tmp_path):
    header = bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in (5_000_000, 28, 28))
    (tmp_path / "images.gz").write_bytes(gzip.compress(header + bytes(10**6)))
    with pytest.raises(ValueError, match=r"images\.gz expands from .* to 3,920,000,016 bytes"):
        read_idx(tmp_path / "images.gz", num_axes=3)


def test_a_stated_size_beyond_the_file_takes_no_memory(tmp_path):
    header = bytes((0, 0, 8, 3)) + b"\xff" * 12
    (tmp_path / "images").write_bytes(header)
    with pytest.raises(ValueError, match="images expands from 16 to"):
        read_idx(tmp_path / "images", num_axes=3)

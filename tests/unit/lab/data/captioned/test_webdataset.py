import io
import json
import pickle
import tarfile

import pytest
import torch
from PIL import Image

from harope.lab.data.captioned.webdataset import TarShardDataset, find_shards
from harope.lab.data.left_out import LeftOutWarning


def picture(red, form="png"):
    file = io.BytesIO()
    Image.new("RGB", (10, 8), (red, 0, 0)).save(file, form)
    return file.getvalue()


def write_shard(path, members, mode="w"):
    with tarfile.open(path, mode) as shard:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path):
    """Three shards: text, JSON in both fields and orders, and a folder with a key of dots."""
    write_shard(tmp_path / "s-008.tar", {"a.png": picture(10), "a.txt": b"ten\n"})
    caption = json.dumps({"text": "unused", "caption": "twenty"}).encode()
    both = {"b.json": caption, "b.webp": picture(20, "webp"), "c.jpg": picture(30, "jpeg")}
    write_shard(tmp_path / "s-009.tar", both | {"c.json": b'{"text": ["thirty", "30"]}'})
    nested = {"x/d.v1.png": picture(99), "x/d.PNG": picture(40), "x/d.txt": "größer".encode()}
    write_shard(tmp_path / "s-010.tar", nested | {"x/d.cls": b"7"})
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*left out")
def test_images_and_captions_are_paired_by_key_in_the_order_of_the_shards(shards):
    dataset = TarShardDataset(f"{shards}/s-{{008..010}}.tar", 8, max_left_out=0.2)
    images, captions = dataset.items(range(len(dataset)))
    assert captions == ["ten", "twenty", "thirty", "größer"]
    assert images.shape == (4, 3, 8, 8)
    reds = (images[:, 0, 4, 4] + 1) * 127.5
    torch.testing.assert_close(reds, torch.tensor([10.0, 20, 30, 40]), rtol=0, atol=3)
    assert dataset.captions(2) == ["thirty", "30"]


def test_text_takes_precedence_over_json(tmp_path):
    members = {"a.txt": b"from text", "a.json": b'{"caption": "from JSON"}', "a.jpg": b""}
    members |= {"b.txt": b"text", "b.json": b'{"width": 7}', "b.jpg": b""}
    dataset = TarShardDataset(str(write_shard(tmp_path / "s.tar", members)), 8)
    assert [dataset.captions(i) for i in (0, 1)] == [["from text"], ["text"]]


@pytest.mark.filterwarnings("ignore:.*left out")
def test_samples_are_shuffled_and_equal_in_another_process(shards):
    dataset = TarShardDataset(f"{shards}/*.tar", 8, seed=3, max_left_out=0.2)
    images, captions = dataset.samples(range(8))
    assert captions != dataset.items([0, 1, 2, 3])[1] * 2
    sent_images, sent_captions = pickle.loads(pickle.dumps(dataset)).samples(range(8))
    assert torch.equal(images, sent_images)
    assert captions == sent_captions


def names(pattern):
    return [path.name for path in find_shards(pattern)]


def test_patterns_name_shards_by_ranges_lists_and_wildcards(shards):
    every = ["s-008.tar", "s-009.tar", "s-010.tar"]
    assert names(f"{shards}/s-{{008..010}}.tar") == every
    assert names(f"{shards}/s-{{010,008}}.tar") == ["s-010.tar", "s-008.tar"]
    assert names(f"{shards}/s-?1?.tar") == ["s-010.tar"]
    assert names(f"{shards}/s-009.tar") == ["s-009.tar"]


@pytest.mark.parametrize(
    ("pattern", "missing"),
    [("s-{008..011}.tar", r"s-011\.tar"), ("*.zip", r"\*\.zip"), ("t.tar", r"t\.tar")],
)
def test_a_missing_shard_is_named(shards, pattern, missing):
    with pytest.raises(ValueError, match=rf"shard \S*{missing} of .* does not exist: add the file"):
        find_shards(f"{shards}/{pattern}")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": b""}, r"s\.tar: a\.png has no caption"),
        ({"a.png": b"", "b.txt": b"b"}, r"s\.tar: a\.png has no caption"),
        ({"a.png": b"", "a.txt": b" "}, r"s\.tar: a\.png has the empty caption"),
        ({"a.png": b"", "a.txt": b"\xff"}, r"s\.tar: a\.txt cannot be read .*: repair or delete"),
        ({"a.png": b"", "a.json": b"{"}, r"s\.tar: a\.json cannot be read .*: repair or delete"),
        ({"a.png": b"", "a.json": b"{}"}, r"s\.tar: a\.png has no caption"),
        ({"a.txt": b"a"}, r"s\.tar contains no images: pack KEY\.jpg with KEY\.txt"),
    ],
)
def test_damaged_samples_are_named_on_opening(tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        TarShardDataset(str(write_shard(tmp_path / "s.tar", members)), 8)


def test_a_damaged_image_is_named(tmp_path):
    path = write_shard(tmp_path / "s.tar", {"a.png": picture(1)[:30], "a.txt": b"a"})
    with pytest.raises(ValueError, match=r"s\.tar: a\.png cannot be read as an image"):
        TarShardDataset(str(path), 8).items([0])


def test_a_compressed_shard_is_refused(tmp_path):
    members = {"a.png": picture(1), "a.txt": b"a"}
    path = write_shard(tmp_path / "s.tar", members, mode="w:gz")
    with pytest.raises(ValueError, match=r"s\.tar cannot be read as an uncompressed tar"):
        TarShardDataset(str(path), 8)


def test_a_truncated_shard_is_named(shards):
    path = shards / "s-009.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"s-009\.tar"):
        TarShardDataset(str(path), 8)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"b.v1.png": b"", "b.v1.txt": b""}, r"images with dots in their keys \(1, .*: b\.v1\.png"),
        ({"a.jpg": b""}, r"further images of the same key \(1, .*: a\.jpg"),
        ({"b.txt": b"b"}, r"captions without an image \(1, .*: b\)"),
        ({"b.gif": b""}, r"images in formats that are not read \(1, .*: b\.gif"),
    ],
)
def test_what_is_not_taken_is_counted(tmp_path, members, reason):
    members = {"a.png": picture(1), "a.txt": b"a", "._a.png": b"", "a.cls": b"7"} | members
    path = write_shard(tmp_path / "s.tar", members)
    with pytest.warns(LeftOutWarning, match=rf"1 of 2 are left out: {reason}"):
        dataset = TarShardDataset(str(path), 8, max_left_out=0.5)
    assert len(dataset) == 1
    assert ((dataset.items([0])[0][0, 0] + 1) * 127.5).round().unique().tolist() == [1]
    with pytest.raises(ValueError, match=rf"{reason}.* this is more than max_left_out 0\.1"):
        TarShardDataset(str(path), 8)


@pytest.mark.parametrize(
    "pattern", ["s-{0..9999999999}.tar", "{0..999}-{0..999}.tar", "{9..1}.tar"]
)
def test_patterns_of_too_many_or_no_shards_are_refused(pattern):
    with pytest.raises(ValueError, match=r"it must be (at most|from 1 to) 100,000"):
        find_shards(pattern)


def write_claim(path, name, size):
    """Write a shard whose only member claims a size that the file does not have."""
    info = tarfile.TarInfo(name)
    info.size = size
    path.write_bytes(info.tobuf() + b"caption".ljust(1024, b"\0"))
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.png"])
def test_members_larger_than_their_shard_are_refused(tmp_path, name):
    path = write_claim(tmp_path / "s.tar", name, size=7 * 10**9)
    with pytest.raises(ValueError, match=r"is said to have 7,000,000,000 bytes, which .* not cont"):
        TarShardDataset(str(path), 8)


def test_huge_captions_are_refused(tmp_path):
    members = {"a.png": picture(1), "a.txt": bytes(2**20 + 1)}
    with pytest.raises(ValueError, match=r"a\.txt has 1,048,577 bytes, but captions have at most"):
        TarShardDataset(str(write_shard(tmp_path / "s.tar", members)), 8)

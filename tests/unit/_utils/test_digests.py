import hashlib
import os

from torch import nn

from harope._utils.digests import bytes_digest, file_digest, listing_digest, weights_digest


def test_sizes_of_parts_are_part_of_a_digest():
    assert bytes_digest(b"ab", b"c") != bytes_digest(b"a", b"bc")
    assert len(bytes_digest(b"ab", length=16)) == 16


def test_a_file_has_the_sha_256_of_its_content(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "x").write_bytes(content)
    assert file_digest(tmp_path / "x", length=64) == hashlib.sha256(content).hexdigest()


def test_a_listing_changes_with_names_and_sizes(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    first = listing_digest(tmp_path, ["a"])
    assert listing_digest(tmp_path, ["b"]) != first
    (tmp_path / "a").write_bytes(b"2")
    assert listing_digest(tmp_path, ["a"]) == first
    (tmp_path / "a").write_bytes(b"12")
    assert listing_digest(tmp_path, ["a"]) != first


def test_a_changed_weight_changes_the_weights_digest():
    layer = nn.BatchNorm1d(3)
    before = weights_digest(layer)
    assert weights_digest(nn.BatchNorm1d(3)) == before
    layer.weight.data[1] += 1e-3
    assert weights_digest(layer) != before


def test_a_listing_with_times_changes_when_a_file_is_rewritten(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    plain, timed = (listing_digest(tmp_path, ["a"], times=times) for times in (False, True))
    os.utime(tmp_path / "a", ns=(5, 5))
    assert listing_digest(tmp_path, ["a"]) == plain
    assert listing_digest(tmp_path, ["a"], times=True) != timed

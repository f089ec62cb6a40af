import subprocess

import pytest

from harope._utils.checksums import CHECKSUMS_FILE, verify_checksums, write_checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a b.txt").write_text("one")
    (tmp_path / "c.bin").write_bytes(bytes(3_000_000))
    write_checksums(tmp_path)
    return tmp_path


def test_whole_files_pass_and_a_flipped_bit_is_named(folder):
    verify_checksums(folder)
    (folder / "c.bin").write_bytes(bytes(2_999_999) + b"\1")
    verify_checksums(folder, ["a b.txt"])
    with pytest.raises(ValueError, match=r"c\.bin is damaged: it differs from its checksum"):
        verify_checksums(folder)


def test_the_file_is_that_of_sha256sum(folder):
    command = ["sha256sum", "--check", "--strict", CHECKSUMS_FILE]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_missing_and_additional_files_are_named(folder):
    (folder / "new").touch()
    with pytest.raises(ValueError, match=r"SHA256SUMS has no checksum of new"):
        verify_checksums(folder)
    (folder / "new").unlink()
    (folder / "a b.txt").unlink()
    with pytest.raises(ValueError, match=r"a b\.txt cannot be read: No such file"):
        verify_checksums(folder)


@pytest.mark.parametrize("content", [b"nothing", b"\xff\xfe", b"abc  a b.txt\n"])
def test_a_damaged_list_is_refused(folder, content):
    (folder / CHECKSUMS_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="SHA256SUMS is damaged: it is not a list of checksums"):
        verify_checksums(folder)


def test_without_a_list_nothing_is_checked(tmp_path):
    (tmp_path / "a").touch()
    verify_checksums(tmp_path)

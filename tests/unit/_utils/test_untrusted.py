import pytest

from harope._utils.untrusted import check_expansion, check_file_size, check_plain_name, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 日本.png", "größe 日本.png"),
        ("a\x1b[2J\n\u202e", r"a\x1b[2J\n\u202e"),
        ("\udcff", r"\udcff"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "/a", "a\\b", "a\0"])
def test_names_with_folders_are_refused(name):
    with pytest.raises(ValueError, match=r"list names the file .* a name without a folder"):
        check_plain_name(name, "list")
    check_plain_name("..a.png", "list")


def test_expansion_is_limited_beyond_64_mib():
    check_expansion(1, 2**26, "file")
    check_expansion(10**6, 10**8, "file")
    with pytest.raises(ValueError, match="file expands from 1,000,000 to 100,000,001 bytes"):
        check_expansion(10**6, 10**8 + 1, "file")


def test_large_files_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    check_file_size(tmp_path / "a", 3)
    with pytest.raises(ValueError, match="has 3 bytes, more than 2"):
        check_file_size(tmp_path / "a", 2)

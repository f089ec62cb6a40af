import pytest

from harope._utils.text_files import decode_text, read_json_lines, read_text


def test_text_has_no_byte_order_mark_and_plain_line_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffgröße\r\ntwo\rthree\n".encode())
    assert read_text(tmp_path / "a.txt") == "größe\ntwo\nthree\n"


def test_the_line_that_is_not_utf_8_is_named():
    with pytest.raises(ValueError, match=r"a\.tar: b\.txt line 2 is not UTF-8 .*: convert"):
        decode_text(b"one\n\xff", "a.tar: b.txt")


def test_lines_of_json_are_located(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('[1]\n\n"two \u2028 parts"\n{\n', encoding="utf-8")
    lines = read_json_lines(path)
    assert next(lines) == (f"{path} line 1", [1])
    assert next(lines) == (f"{path} line 3", "two \u2028 parts")
    with pytest.raises(ValueError, match="line 4 is not JSON"):
        next(lines)

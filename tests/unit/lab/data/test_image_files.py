import os

import pytest

from harope.lab.data.image_files import find_images
from harope.lab.data.left_out import LeftOut


def test_images_are_found_below_links_and_not_among_hidden_files(tmp_path):
    for path in ("a/x.PNG", "a/.hidden.png", ".cache/y.png", "elsewhere/z.webp", "a/notes.txt"):
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).touch()
    (tmp_path / "in/elsewhere").rename(tmp_path / "elsewhere")
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    found = sorted(os.fsdecode(path) for path in find_images(tmp_path / "in", LeftOut("in")))
    assert found == ["a/x.PNG", "link/z.webp"]


def test_a_link_to_a_folder_that_contains_it_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/again").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"again is a link to .* which contains it: remove"):
        list(find_images(tmp_path, LeftOut("all")))


def test_what_cannot_be_read_is_counted(tmp_path):
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "waiting.png")
    (tmp_path / "photo.HEIC").touch()
    left_out = LeftOut(tmp_path)
    assert list(find_images(tmp_path, left_out)) == []
    assert left_out.count == 3

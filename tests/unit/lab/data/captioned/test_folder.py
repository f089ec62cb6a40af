import json
import os
import shutil

import pytest

from harope.lab.data.captioned.folder import CaptionedFolderDataConfig, open_captioned_folder
from harope.lab.data.left_out import LeftOutWarning


def open_folder(root, **fields):
    return open_captioned_folder(
        CaptionedFolderDataConfig(root=str(root), image_size=8, **fields), 0
    )


def keep_only(folder, *names):
    """Delete the other images of a folder with metadata."""
    for path in folder.glob("*.png"):
        if path.name not in names:
            path.unlink()


def reds(images):
    """Return the red value in the middle of each image, 0 to 255."""
    return ((images[:, 0, 4, 4] + 1) * 127.5).round().long().tolist()


def test_captions_are_read_from_text_files(captioned_folder):
    dataset = open_folder(captioned_folder)
    images, captions = dataset.items(range(len(dataset)))
    assert images.shape == (5, 3, 8, 8)
    assert captions == [f"picture {number}" for number in range(5)]
    assert reds(images) == [0, 50, 100, 150, 200]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_metadata_determines_order_and_captions(captioned_folder, save_image, ending):
    save_image(captioned_folder / "deeper/9.png", (250, 0, 0))
    keep_only(captioned_folder, "1.png")
    rows = [("deeper/9.png", 'nine, "deeper"'), ("1.png", "one")]
    metadata = captioned_folder / f"metadata.{ending}"
    if ending == "csv":
        metadata.write_text('file_name,text\ndeeper/9.png,"nine, ""deeper"""\n1.png,one\n')
    else:
        lines = [json.dumps({"file_name": name, "text": text, "id": 3}) for name, text in rows]
        metadata.write_text("\n".join([*lines, ""]))
    images, captions = open_folder(captioned_folder).items([0, 1])
    assert captions == ['nine, "deeper"', "one"]
    assert reds(images) == [250, 50]


def test_csv_captions_may_contain_line_breaks(captioned_folder):
    keep_only(captioned_folder, "1.png", "2.png")
    (captioned_folder / "metadata.csv").write_text('file_name,text\n1.png,"one\ntwo"\n2.png,b\n')
    assert open_folder(captioned_folder).items([0, 1])[1] == ["one\ntwo", "b"]


def test_another_column_may_contain_lists_of_captions(captioned_folder):
    keep_only(captioned_folder, "2.png")
    line = {"file_name": "2.png", "captions": ["two", "a pair"]}
    (captioned_folder / "metadata.jsonl").write_text(json.dumps(line))
    dataset = open_folder(captioned_folder, text_column="captions")
    assert dataset.captions(0) == ["two", "a pair"]
    assert {dataset.samples([number])[1][0] for number in range(20)} == {"two", "a pair"}


def test_images_are_padded_on_request(captioned_folder):
    cropped, padded = (
        open_folder(captioned_folder, fit=fit).items([0])[0] for fit in ("crop", "pad")
    )
    assert (cropped == cropped[..., :1, :1]).all()
    # 10 x 8 pixels become 8 x 6, with a white row above and below.
    assert (padded[0, :, [0, -1]] == 1).all()
    assert (padded[0, 0, 1:-1] == -1).all()


def test_images_without_a_text_file_are_counted(captioned_folder):
    (captioned_folder / "3.txt").unlink()
    open_with(captioned_folder, r"1 of 5 .*images without a caption \(1, the first: 3\.png\)", 4)


def test_a_folder_without_captions_is_named(captioned_folder):
    for path in captioned_folder.glob("*.txt"):
        path.unlink()
    expected = r"has 5 images and no captions: add 0\.txt next to 0\.png"
    with pytest.raises(ValueError, match=expected):
        open_folder(captioned_folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist: set root to a folder of"):
        open_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("joined", ["a frog\n\n de.utf8=ein Frosch"]),
        ("first", ["a frog"]),
        ("each", ["a frog", "de.utf8=ein Frosch"]),
    ],
)
def test_the_lines_of_a_text_file_are_a_caption_or_several(captioned_folder, lines, expected):
    (captioned_folder / "3.txt").write_text("\na frog\n\n de.utf8=ein Frosch\n")
    dataset = open_folder(captioned_folder, caption_lines=lines)
    assert dataset.captions(3) == expected
    (captioned_folder / "3.txt").write_text(" \n\n")
    with pytest.raises(ValueError, match=r"3\.txt has the empty caption"):
        open_folder(captioned_folder, caption_lines=lines)


def test_an_empty_text_file_is_named(captioned_folder):
    (captioned_folder / "3.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"3\.txt has the empty caption"):
        open_folder(captioned_folder)


def test_a_text_file_that_is_not_text_is_named(captioned_folder):
    (captioned_folder / "3.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"3\.txt line 1 is not UTF-8"):
        open_folder(captioned_folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"metadata\.jsonl is empty: add a line for each image"),
        ("{", r"metadata\.jsonl line 1 is not JSON"),
        ("[1]", r"metadata\.jsonl line 1 has no file_name"),
        ('\n{"text": "a"}', r"metadata\.jsonl line 2 has no file_name"),
        ('{"file_name": "1.png"}', r"metadata\.jsonl line 1 has no caption"),
        ('{"file_name": "7.png", "text": "a"}', r"metadata\.jsonl lists 7\.png, which is missing"),
    ],
)
def test_damaged_metadata_is_named_by_line(captioned_folder, text, message):
    (captioned_folder / "metadata.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_folder(captioned_folder)


def test_a_damaged_image_is_named(captioned_folder):
    (captioned_folder / "2.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2\.png cannot be read as an image"):
        open_folder(captioned_folder).items([2])


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"contains no images: add files with the extensions \.jpg"
    ):
        open_folder(tmp_path)


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match="image_size must be at least 1, got 0"):
        CaptionedFolderDataConfig(root="somewhere", image_size=0)


@pytest.mark.parametrize("max_left_out", [-0.1, 1.1, float("nan")])
def test_a_fraction_out_of_range_is_refused(max_left_out):
    with pytest.raises(ValueError, match=r"max_left_out \S+ must lie in \[0, 1\]"):
        CaptionedFolderDataConfig(root="somewhere", max_left_out=max_left_out)


def open_with(folder, message, count):
    """Open a folder that leaves things out, with a warning, or with an error by default."""
    with pytest.warns(LeftOutWarning, match=message):
        dataset = open_folder(folder, max_left_out=0.9)
    with pytest.raises(ValueError, match=f"{message}.* this is more than max_left_out 0.1"):
        open_folder(folder)
    assert len(dataset) == count


def test_images_without_metadata_are_counted(captioned_folder):
    (captioned_folder / "metadata.jsonl").write_text('{"file_name": "2.png", "text": "two"}')
    expected = r"4 of 5 are left out: images that metadata\.jsonl does not list \(4, the first: 0\."
    open_with(captioned_folder, expected, 1)


def test_a_second_metadata_file_is_counted(captioned_folder):
    keep_only(captioned_folder, "2.png")
    (captioned_folder / "metadata.jsonl").write_text('{"file_name": "2.png", "text": "two"}')
    (captioned_folder / "metadata.csv").write_text("file_name,text\n2.png,zwei\n")
    open_with(
        captioned_folder,
        r"metadata files in addition to metadata\.jsonl \(1, the first: meta.*csv",
        1,
    )


def test_metadata_in_a_subfolder_is_pointed_to(captioned_folder):
    (captioned_folder / "train").mkdir()
    (captioned_folder / "train/metadata.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"but \S*train has: pass that folder, or move"):
        open_folder(captioned_folder)


def test_text_files_without_an_image_are_counted(captioned_folder):
    (captioned_folder / "9.txt").write_text("nine")
    open_with(captioned_folder, r"text files without an image \(1, the first: 9\.txt\)", 5)


def test_an_image_in_another_format_is_counted_once_with_its_caption(captioned_folder):
    (captioned_folder / "9.svg").touch()
    (captioned_folder / "9.txt").write_text("nine")
    open_with(captioned_folder, r"1 of 6 are left out: images in formats that are not read", 5)


def test_images_in_other_formats_are_counted_by_escaped_names(captioned_folder):
    (captioned_folder / "a\x1b[2J.heic").touch()
    expected = r"images in formats that are not read \(1, the first: a\\x1b\[2J\.heic\)"
    open_with(captioned_folder, expected, 5)


def test_few_left_out_files_are_a_warning(captioned_folder, save_image):
    for number in range(5, 10):
        path = save_image(captioned_folder / f"{number}.png")
        path.with_suffix(".txt").write_text("more")
    (captioned_folder / "9.gif").touch()
    with pytest.warns(LeftOutWarning, match="1 of 11 are left out"):
        assert len(open_folder(captioned_folder)) == 10


def test_names_that_are_not_unicode_are_read(captioned_folder, save_image):
    path = save_image(captioned_folder / os.fsdecode(b"\xff.png"), (200, 0, 0))
    path.with_suffix(".txt").write_text("nameless")
    images, captions = open_folder(captioned_folder).items([5])
    assert (captions, reds(images)) == (["nameless"], [200])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file_name": "1.png", "text": "\\ud800"}', "has a caption with lone surrogates"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_hostile_metadata_is_named(captioned_folder, text, message):
    (captioned_folder / "metadata.jsonl").write_text(text)
    with pytest.raises(ValueError, match=rf"metadata\.jsonl line 1 .*{message}"):
        open_folder(captioned_folder)


def test_a_huge_text_file_is_refused_before_it_is_read(captioned_folder):
    os.truncate(captioned_folder / "3.txt", 2**40)
    with pytest.raises(ValueError, match=r"3\.txt has 1,099,511,627,776 bytes, more than"):
        open_folder(captioned_folder)


def test_the_identity_changes_with_the_files(captioned_folder):
    first, again = (open_folder(captioned_folder) for _ in range(2))
    assert again.identity == first.identity
    before = first.files_digest(times=True)
    os.utime(captioned_folder / "0.png", ns=(1, 1))
    replaced = open_folder(captioned_folder)
    assert replaced.identity == first.identity
    assert replaced.files_digest(times=True) != before
    (captioned_folder / "0.txt").write_text("another picture")
    assert open_folder(captioned_folder).identity != first.identity


def test_copies_in_another_folder_have_the_same_identity(captioned_folder, tmp_path):
    shutil.copytree(captioned_folder, tmp_path / "copy", copy_function=shutil.copyfile)
    copied, original = open_folder(tmp_path / "copy"), open_folder(captioned_folder)
    assert copied.identity == original.identity
    assert copied.files_digest(times=True) != original.files_digest(times=True)

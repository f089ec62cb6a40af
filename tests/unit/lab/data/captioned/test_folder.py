import json

import pytest

from harope.lab.data.captioned.folder import CaptionedFolderDataConfig, open_captioned_folder


def open_folder(root, **fields):
    return open_captioned_folder(
        CaptionedFolderDataConfig(root=str(root), image_size=8, **fields), 0
    )


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
    (captioned_folder / "metadata.csv").write_text('file_name,text\n1.png,"one\ntwo"\n2.png,b\n')
    assert open_folder(captioned_folder).items([0, 1])[1] == ["one\ntwo", "b"]


def test_another_column_may_contain_lists_of_captions(captioned_folder):
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


def test_a_image_without_a_text_file_is_named(captioned_folder):
    (captioned_folder / "3.txt").unlink()
    with pytest.raises(
        ValueError, match=r"3\.png has no caption: add 3\.txt in the same folder, or write a"
    ):
        open_folder(captioned_folder)


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

import json

import pytest

from harope.lab.data.captioned.coco import CocoDataConfig, open_coco
from harope.lab.data.left_out import LeftOutWarning


def write(path, images, annotations):
    values = {
        "info": {},
        "images": [{"id": i, "file_name": name} for i, name in images],
        "annotations": [
            {"id": n, "image_id": i, "caption": text} for n, (i, text) in enumerate(annotations)
        ],
    }
    path.write_text(json.dumps(values))
    return path


def open_files(root, annotations, **fields):
    config = CocoDataConfig(root=str(root), annotations=str(annotations), image_size=8, **fields)
    return open_coco(config, seed=0)


@pytest.fixture
def pictures(tmp_path, save_image):
    for number in range(3):
        save_image(tmp_path / f"train2014/{number}.jpg", (100 * number, 0, 0))
    return tmp_path / "train2014"


def test_each_image_has_all_of_its_captions(pictures, tmp_path):
    captions = [(7, "a dog"), (3, "two cats "), (7, "A dog.\n"), (3, "cats"), (3, "a pair")]
    path = write(tmp_path / "c.json", [(7, "2.jpg"), (3, "0.jpg")], captions)
    (pictures / "1.jpg").unlink()
    dataset = open_files(pictures, path)
    assert [dataset.captions(i) for i in (0, 1)] == [
        ["a dog", "A dog."],
        ["two cats", "cats", "a pair"],
    ]
    images, first = dataset.items([0, 1])
    assert first == ["a dog", "two cats"]
    assert images[0, 0].mean() > 0 > images[1, 0].mean()


def test_samples_have_one_of_the_captions(pictures, tmp_path):
    path = write(tmp_path / "c.json", [(1, "1.jpg")], [(1, "one"), (1, "single")])
    for number in (0, 2):
        (pictures / f"{number}.jpg").unlink()
    _, captions = open_files(pictures, path).samples(range(100))
    # Five standard deviations of 100 fair coins are 25.
    assert abs(captions.count("one") - 50) < 25
    assert set(captions) == {"one", "single"}


def test_a_image_without_a_caption_is_named(pictures, tmp_path):
    path = write(tmp_path / "c.json", [(1, "1.jpg"), (2, "2.jpg")], [(1, "one")])
    with pytest.raises(ValueError, match=r"c\.json: 2\.jpg has no caption"):
        open_files(pictures, path)


def test_a_missing_image_is_named(pictures, tmp_path):
    path = write(tmp_path / "c.json", [(1, "9.jpg")], [(1, "nine")])
    with pytest.raises(
        ValueError, match=r"c\.json lists 9\.jpg, which is missing from \S*train2014"
    ):
        open_files(pictures, path)


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', '{"annotations": [{}]}'])
def test_a_file_in_another_format_is_named(pictures, tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=r"c\.json is not a COCO caption file"):
        open_files(pictures, tmp_path / "c.json")


def test_a_file_without_images_is_named(pictures, tmp_path):
    with pytest.raises(ValueError, match=r"c\.json lists no images"):
        open_files(pictures, write(tmp_path / "c.json", [], []))


def test_unlisted_images_and_captions_are_counted(pictures, tmp_path):
    captions = [(1, "one"), (5, "five"), (6, "six")]
    path = write(tmp_path / "c.json", [(1, "1.jpg")], captions)
    expected = (
        r"c\.json: 4 of 5 are left out: captions of images that the file does not list \(2, the "
        r"first: five\); images that c\.json does not list \(2, the first: 0\.jpg\)"
    )
    with pytest.warns(LeftOutWarning, match=expected):
        dataset = open_files(pictures, path, max_left_out=0.8)
    assert len(dataset) == 1
    with pytest.raises(ValueError, match=rf"{expected}; this is more than max_left_out 0\.1"):
        open_files(pictures, path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"images": [{"id": "x", "file_name": "1.jpg"}], "annotations": []}, r"images\.0\.id"),
        ({"images": [{"id": 1, "file_name": None}], "annotations": []}, r"images\.0\.file_name"),
        ({"images": None, "annotations": []}, "images: "),
        ({"images": [], "annotations": [3]}, r"annotations\.0: "),
    ],
)
def test_the_field_of_another_type_is_named(pictures, tmp_path, value, message):
    (tmp_path / "c.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=rf"c\.json is not a COCO caption file .*{message}"):
        open_files(pictures, tmp_path / "c.json")

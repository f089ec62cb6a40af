import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from harope.lab.data.captioned.hub import HubDataConfig, HubDataset, open_hub
from harope.lab.data.image_io import read_rgb


def png(red):
    file = io.BytesIO()
    Image.new("RGB", (10, 8), (red, 0, 0)).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture
def make():
    """Return a dataset of images with increasing red values and these captions."""
    import datasets

    def dataset(captions, pictures=None):
        pictures = pictures or [png(50 * i) for i in range(len(captions))]
        columns = {"picture": pictures, "caption": captions, "id": list(range(len(captions)))}
        return datasets.Dataset.from_dict(columns).cast_column("picture", datasets.Image())

    return dataset


def open_saved(root, **fields):
    columns = {"image_column": "picture", "text_column": "caption"}
    config = HubDataConfig(root=str(root), image_size=8, **(columns | fields))
    return open_hub(config, seed=0)


def test_rows_are_items(make, tmp_path):
    make(["zero", " one", "two"]).save_to_disk(tmp_path)
    source = open_saved(tmp_path)
    images, captions = source.items([0, 1, 2])
    assert captions == ["zero", "one", "two"]
    assert ((images[:, 0, 4, 4] + 1) * 127.5).round().tolist() == [0, 50, 100]


def test_a_folder_of_splits_gives_the_one_that_is_named(make, tmp_path):
    import datasets

    splits = {"train": make(["a", "b"]), "validation": make(["c"])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path)
    assert open_saved(tmp_path, split="validation").items([0])[1] == ["c"]
    with pytest.raises(ValueError, match=r"has no split 'test': it has train, validation"):
        open_saved(tmp_path, split="test")


def test_a_folder_that_datasets_can_load_is_read(make, tmp_path):
    (tmp_path / "data").mkdir()
    make(["a", "b"]).to_parquet(tmp_path / "data/train.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        source = open_saved(tmp_path / "data")
    assert source.items([0, 1])[1] == ["a", "b"]


def test_lists_of_captions_are_chosen_from(make):
    source = HubDataset(make([["a", "b"], ["c"]]), 8, 0, "picture", "caption")
    assert source.captions(0) == ["a", "b"]
    assert {source.samples([number])[1][0] for number in range(30)} == {"a", "b", "c"}


def test_another_process_reads_the_same_samples(make):
    source = HubDataset(make(["a", "b", "c"]), 8, 3, "picture", "caption")
    images, captions = source.samples(range(6))
    sent_images, sent_captions = pickle.loads(pickle.dumps(source)).samples(range(6))
    assert torch.equal(images, sent_images)
    assert captions == sent_captions


@pytest.mark.parametrize("column", ["picture", "caption"])
def test_a_missing_column_is_named(make, column):
    dataset = make(["a"]).rename_column(column, "other")
    with pytest.raises(ValueError, match=f"column '{column}' is not in the dataset: it has"):
        HubDataset(dataset, 8, 0, "picture", "caption")


def test_a_missing_caption_is_named(make):
    with pytest.raises(ValueError, match="row 1 of the dataset has no caption"):
        HubDataset(make(["a", None]), 8, 0, "picture", "caption")


@pytest.mark.parametrize("picture", [None, {"bytes": b"", "path": None}])
def test_a_damaged_image_is_named(make, picture):
    source = HubDataset(make(["a", "b"], [png(0), picture]), 8, 0, "picture", "caption")
    with pytest.raises(ValueError, match="row 1 of the dataset cannot be read as an image"):
        source.items([1])


def test_images_may_be_files(make, tmp_path, save_image):
    path = save_image(tmp_path / "a.png", (200, 0, 0))
    source = HubDataset(make(["a", "b"], [str(path), "nowhere.png"]), 8, 0, "picture", "caption")
    assert ((source.items([0])[0][0, 0, 4, 4] + 1) * 127.5).round() == 200
    message = r"row 1 of the dataset, nowhere\.png, cannot be read as an image"
    with pytest.raises(ValueError, match=message):
        source.items([1])


def test_images_are_those_that_datasets_decodes(make, tmp_path):
    """EXIF orientation included."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    dataset = make(["turned"], [str(tmp_path / "turned.png")])
    expected = np.asarray(dataset[0]["picture"].convert("RGB"))
    assert expected.shape == (12, 8, 3)
    np.testing.assert_array_equal(read_rgb(tmp_path / "turned.png"), expected)
    ours = HubDataset(dataset, 8, image_column="picture", text_column="caption").items([0])[0]
    pixels = ((ours[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels, expected[2:10])


def test_the_identity_is_that_of_the_table(make, tmp_path):
    make(["zero", "one"]).save_to_disk(tmp_path / "a")
    make(["zero", "two"]).save_to_disk(tmp_path / "b")
    first = open_saved(tmp_path / "a").identity
    assert open_saved(tmp_path / "a").identity == first
    assert open_saved(tmp_path / "b").identity != first

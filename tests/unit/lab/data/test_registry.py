import json
import tarfile
from typing import Annotated, get_args

import numpy as np
import pytest
import torch
from pydantic import Field, TypeAdapter

from harope.lab.data.captioned.base import CaptionedFilesDataset
from harope.lab.data.captioned.coco import CocoDataConfig
from harope.lab.data.captioned.emoji import EmojiDataConfig
from harope.lab.data.captioned.folder import CaptionedFolderDataConfig
from harope.lab.data.captioned.hub import HubDataConfig, HubDataset
from harope.lab.data.captioned.scenes import CaptionedScenesDataConfig, CaptionedScenesDataset
from harope.lab.data.captioned.stream import CaptionStream, StreamDataConfig
from harope.lab.data.captioned.webdataset import TarShardDataset, WebDatasetDataConfig
from harope.lab.data.labelled.digits import DigitsDataConfig, DigitsDataset
from harope.lab.data.labelled.folder import FolderDataConfig, ImageFolderDataset
from harope.lab.data.labelled.idx import IdxDataConfig, IdxDataset
from harope.lab.data.labelled.scenes import ScenesDataConfig, ScenesDataset
from harope.lab.data.latents.captioned import (
    CaptionedLatentsDataConfig,
    CaptionedLatentsDataset,
    encode_captioned,
)
from harope.lab.data.latents.files import LatentFilesDataset, LatentPairDataset, LatentsDataConfig
from harope.lab.data.latents.shards import LatentShardDataset
from harope.lab.data.latents.vae import load_vae
from harope.lab.data.registry import (
    CaptionedDataConfig,
    DataConfig,
    create_captioned_config,
    open_captioned_dataset,
    open_dataset,
)
from harope.lab.data.synthetic import make_idx, make_image_folder, make_latent_pair


@pytest.fixture
def configs(tmp_path, shards):
    """A config of each kind, with the dataset class it opens."""
    make_idx(tmp_path / "idx", num=4)
    make_image_folder(tmp_path / "images", num=5, image_size=8)
    features, labels = map(str, make_latent_pair(tmp_path / "pair", num=4))
    return [
        (ScenesDataConfig(image_size=8), ScenesDataset),
        (IdxDataConfig(root=str(tmp_path / "idx"), split="test", pad_to=32), IdxDataset),
        (DigitsDataConfig(), DigitsDataset),
        (FolderDataConfig(root=str(tmp_path / "images"), image_size=8), ImageFolderDataset),
        (LatentsDataConfig(features=features, labels=labels), LatentPairDataset),
        (LatentsDataConfig(root=str(shards)), LatentShardDataset),
    ]


def test_every_config_opens_its_dataset(configs):
    assert {type(config) for config, _ in configs} == set(get_args(DataConfig))
    for config, kind in configs:
        source = open_dataset(config, seed=3)
        images, labels = source.samples([0, 1])
        assert type(source) is kind
        assert images.shape == (2, *source.shape)
        assert labels.max() < source.num_classes


def test_the_seed_determines_the_samples(configs):
    for config, _ in configs:
        labels = [open_dataset(config, seed).samples(range(60))[1] for seed in (3, 3, 4)]
        assert torch.equal(labels[0], labels[1])
        assert not torch.equal(labels[0], labels[2])


def test_folders_of_single_latents_are_distinguished_from_a_pair(tmp_path):
    for name, value in (("f", np.zeros((1, 4, 2, 2), np.float32)), ("l", np.array([0]))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "0.npy", value)
    config = LatentsDataConfig(features=str(tmp_path / "f"), labels=str(tmp_path / "l"))
    assert isinstance(open_dataset(config, seed=0), LatentFilesDataset)


def test_json_configs_are_distinguished_by_kind(configs):
    adapter = TypeAdapter(Annotated[DataConfig, Field(discriminator="kind")])
    for config, _ in configs:
        assert adapter.validate_json(adapter.dump_json(config)) == config


@pytest.fixture
def captioned(tmp_path, captioned_folder, vae_folder):
    """A captioned config of each kind over five images, with the dataset class it opens."""
    import datasets

    names = [f"{number}.png" for number in range(5)]
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for path in sorted(captioned_folder.iterdir()):
            shard.add(path, path.name)
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    captions = [{"image_id": i, "caption": f"picture {i}"} for i in range(5)]
    annotations = tmp_path / "captions.json"
    annotations.write_text(json.dumps({"images": images, "annotations": captions}))
    (tmp_path / "img/google").mkdir(parents=True)
    (tmp_path / "img/google/64").symlink_to(captioned_folder)
    emoji = [{"name": f"PICTURE {name}", "image": name, "has_img_google": True} for name in names]
    (tmp_path / "emoji.json").write_text(json.dumps(emoji))
    columns = {"image": [str(captioned_folder / name) for name in names], "text": names}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "saved")
    folder = CaptionedFolderDataConfig(root=str(captioned_folder), image_size=8)
    encode_captioned(
        open_captioned_dataset(folder, seed=0), load_vae(vae_folder), tmp_path / "latents"
    )
    return [
        (CaptionedScenesDataConfig(image_size=8), CaptionedScenesDataset),
        (folder, CaptionedFilesDataset),
        (WebDatasetDataConfig(root=str(tmp_path / "*.tar"), image_size=8), TarShardDataset),
        (HubDataConfig(root=str(tmp_path / "saved"), image_size=8), HubDataset),
        (
            StreamDataConfig(
                root=str(tmp_path / "shard.tar"),
                image_size=8,
                image_column="png",
                text_column="txt",
            ),
            CaptionStream,
        ),
        (
            CocoDataConfig(root=str(captioned_folder), annotations=str(annotations), image_size=8),
            CaptionedFilesDataset,
        ),
        (EmojiDataConfig(root=str(tmp_path)), CaptionedFilesDataset),
        (CaptionedLatentsDataConfig(root=str(tmp_path / "latents")), CaptionedLatentsDataset),
    ]


def test_every_captioned_config_opens_its_dataset(captioned):
    assert {type(config) for config, _ in captioned} == set(get_args(CaptionedDataConfig))
    adapter = TypeAdapter(Annotated[CaptionedDataConfig, Field(discriminator="kind")])
    for config, kind in captioned:
        assert adapter.validate_json(adapter.dump_json(config)) == config
        first, again, other = (
            open_captioned_dataset(config, seed).samples(range(40)) for seed in (3, 3, 4)
        )
        assert type(open_captioned_dataset(config, seed=3)) is kind
        assert first[0].shape == (40, *open_captioned_dataset(config, seed=3).shape)
        assert torch.equal(first[0], again[0])
        assert first[1] == again[1] != other[1]


def test_captioned_configs_are_created_by_kind():
    config = create_captioned_config("coco", root="a", annotations="b", image_size=8)
    assert config == CocoDataConfig(root="a", annotations="b", image_size=8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "folder"}, "kind 'folder' is not known: choose one of scenes-captions, "),
        ({"kind": "coco", "root": "a"}, "coco requires 'annotations'"),
        ({"kind": "hub", "root": "a", "image_size": "wide"}, r"hub: image_size: .*'wide'"),
        ({"kind": "emoji", "root": "a", "only": "cat"}, r"emoji: only: .*'cat'"),
        ({"kind": "webdataset", "root": "a", "max_left_out": "2"}, r"must lie in \[0, 1\]"),
        ({"kind": "emoji", "root": "a", "spit": "test"}, "emoji has no field 'spit': it has kind,"),
    ],
)
def test_wrong_kinds_and_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        create_captioned_config(**fields)

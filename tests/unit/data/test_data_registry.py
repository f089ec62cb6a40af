from typing import Annotated, get_args

import numpy as np
import pytest
import torch
from pydantic import Field, TypeAdapter

from harope.data.digits import DigitsData, DigitsSource
from harope.data.folder import FolderData, ImageFolderSource
from harope.data.idx import IdxData, IdxSource
from harope.data.latents import LatentFilesSource, LatentPairSource, LatentsData
from harope.data.made import make_idx, make_image_folder, make_latent_pair
from harope.data.registry import DataConfig, open_source
from harope.data.scenes import ScenesData, ScenesSource
from harope.data.shards import LatentShardSource


@pytest.fixture
def configs(tmp_path, shards):
    """One config of each kind over data that exists, with the source it opens."""
    make_idx(tmp_path / "idx", num=4)
    make_image_folder(tmp_path / "images", num=5, image_size=8)
    features, labels = map(str, make_latent_pair(tmp_path / "pair", num=4))
    return [
        (ScenesData(image_size=8), ScenesSource),
        (IdxData(root=str(tmp_path / "idx"), split="test", pad_to=32), IdxSource),
        (DigitsData(), DigitsSource),
        (FolderData(root=str(tmp_path / "images"), image_size=8), ImageFolderSource),
        (LatentsData(features=features, labels=labels), LatentPairSource),
        (LatentsData(root=str(shards)), LatentShardSource),
    ]


def test_every_config_opens_its_source(configs):
    assert {type(config) for config, _ in configs} == set(get_args(DataConfig))
    for config, kind in configs:
        source = open_source(config, seed=3)
        images, labels = source.draw([0, 1])
        assert type(source) is kind
        assert images.shape == (2, *source.shape)
        assert labels.max() < source.num_classes


def test_the_seed_decides_the_draws(configs):
    for config, _ in configs:
        labels = [open_source(config, seed).draw(range(60))[1] for seed in (3, 3, 4)]
        assert torch.equal(labels[0], labels[1])
        assert not torch.equal(labels[0], labels[2])


def test_folders_of_single_latents_are_told_from_a_pair(tmp_path):
    for name, value in (("f", np.zeros((1, 4, 2, 2), np.float32)), ("l", np.array([0]))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "0.npy", value)
    config = LatentsData(features=str(tmp_path / "f"), labels=str(tmp_path / "l"))
    assert isinstance(open_source(config, seed=0), LatentFilesSource)


def test_configs_are_told_apart_by_kind_after_json(configs):
    adapter = TypeAdapter(Annotated[DataConfig, Field(discriminator="kind")])
    for config, _ in configs:
        assert adapter.validate_json(adapter.dump_json(config)) == config

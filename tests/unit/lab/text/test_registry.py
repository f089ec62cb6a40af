import os
from dataclasses import replace
from typing import Annotated, get_args

import pytest
import torch
from pydantic import Field, TypeAdapter

from harope.lab.text.multi_encoder import (
    FluxTextConfig,
    FluxTextEncoder,
    SD3TextConfig,
    SD3TextEncoder,
)
from harope.lab.text.pretrained import PretrainedTextConfig, TransformersTextEncoder
from harope.lab.text.registry import TextConfig, encoder_source, open_text_encoder
from harope.lab.text.toy_vocab import ToyVocabularyConfig, ToyVocabularyEncoder
from support.text import CAPTIONS, save_clip, save_t5


def test_every_config_opens_its_encoder_and_survives_json(checkpoint, tmp_path):
    save_clip(tmp_path, "", seed=0)
    save_clip(tmp_path, "_2", seed=1)
    save_t5(tmp_path, "_3", seed=2)
    configs = [
        (ToyVocabularyConfig(channels=8), ToyVocabularyEncoder),
        (PretrainedTextConfig(length=7), TransformersTextEncoder),
        (FluxTextConfig(path=str(checkpoint), length=9), FluxTextEncoder),
        (SD3TextConfig(path=str(tmp_path), length=9), SD3TextEncoder),
    ]
    assert {type(config) for config, _ in configs} == set(get_args(TextConfig))
    adapter = TypeAdapter(Annotated[TextConfig, Field(discriminator="kind")])
    for config, kind in configs:
        assert adapter.validate_json(adapter.dump_json(config)) == config
        encoder = open_text_encoder(config)
        captions = [""] if kind is ToyVocabularyEncoder else CAPTIONS
        states, pooled, mask = encoder.encode(captions)
        assert type(encoder) is kind
        assert states.shape == (len(captions), encoder.length, encoder.channels)
        assert pooled.shape == (len(captions), encoder.pooled_channels)
        assert mask.shape == states.shape[:2]


def test_the_source_changes_with_options_and_files_but_not_with_the_path(checkpoint, tmp_path):
    save_clip(tmp_path, "", seed=0)
    save_t5(tmp_path, "_2", seed=1)
    config = FluxTextConfig(path=str(tmp_path), length=9)
    source = encoder_source(config, torch.float32)
    assert source == encoder_source(replace(config, path=os.path.relpath(tmp_path)), torch.float32)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").touch()
    assert source == encoder_source(config, torch.float32)
    assert source != encoder_source(config, torch.float16)
    assert source != encoder_source(replace(config, length=8), torch.float32)
    os.utime(tmp_path / "text_encoder_2/model.safetensors", ns=(1, 1))
    assert source != encoder_source(config, torch.float32)


@pytest.mark.parametrize("path", ["nobody/nothing", "no name at all", "a/b/c"])
def test_the_source_of_files_that_are_not_here_is_unknown(path):
    assert encoder_source(PretrainedTextConfig(path=path), torch.float32) is None


def test_a_vocabulary_and_a_package_have_sources():
    assert encoder_source(ToyVocabularyConfig(), torch.float32)["channels"] == 128
    assert len(encoder_source(PretrainedTextConfig(), torch.float32)["files"]) == 16

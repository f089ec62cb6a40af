from typing import Annotated, get_args

from pydantic import Field, TypeAdapter

from harope.lab.text.multi_encoder import FluxText, FluxTextConfig, SD3Text, SD3TextConfig
from harope.lab.text.pretrained import PretrainedTextConfig, TransformersEncoder
from harope.lab.text.registry import TextConfig, open_text_encoder
from harope.lab.text.toy_vocab import ClosedVocabulary, ClosedVocabularyConfig
from support.text import CAPTIONS, save_clip, save_t5


def test_every_config_opens_its_encoder_and_survives_json(checkpoint, tmp_path):
    save_clip(tmp_path, "", seed=0)
    save_clip(tmp_path, "_2", seed=1)
    save_t5(tmp_path, "_3", seed=2)
    configs = [
        (ClosedVocabularyConfig(channels=8), ClosedVocabulary),
        (PretrainedTextConfig(length=7), TransformersEncoder),
        (FluxTextConfig(path=str(checkpoint), length=9), FluxText),
        (SD3TextConfig(path=str(tmp_path), length=9), SD3Text),
    ]
    assert {type(config) for config, _ in configs} == set(get_args(TextConfig))
    adapter = TypeAdapter(Annotated[TextConfig, Field(discriminator="kind")])
    for config, kind in configs:
        assert adapter.validate_json(adapter.dump_json(config)) == config
        encoder = open_text_encoder(config)
        captions = [""] if kind is ClosedVocabulary else CAPTIONS
        states, pooled, mask = encoder.encode(captions)
        assert type(encoder) is kind
        assert states.shape == (len(captions), encoder.length, encoder.channels)
        assert pooled.shape == (len(captions), encoder.pooled_channels)
        assert mask.shape == states.shape[:2]

import pytest
import torch

from harope.lab.text.multi_encoder import (
    FluxTextConfig,
    FluxTextEncoder,
    SD3TextConfig,
    SD3TextEncoder,
    ZeroTextEncoder,
)
from harope.lab.text.toy_vocab import ToyVocabularyEncoder

CAPTIONS = ["a red star", ""]


def test_flux_combines_t5_tokens_and_clip_pooling():
    clip, t5 = ToyVocabularyEncoder(channels=16), ToyVocabularyEncoder(channels=32, length=5)
    encoder = FluxTextEncoder(clip, t5)
    states, pooled, mask = encoder.encode(CAPTIONS)
    assert torch.equal(states, t5.encode(CAPTIONS).states)
    assert torch.equal(pooled, clip.encode(CAPTIONS).pooled)
    assert torch.equal(mask, t5.encode(CAPTIONS).mask)
    assert (encoder.length, encoder.channels, encoder.pooled_channels) == (5, 32, 16)


def test_sd3_concatenates_clip_channels_and_t5_tokens():
    clip_l, clip_g = (
        ToyVocabularyEncoder(channels=8, length=6),
        ToyVocabularyEncoder(channels=16, length=6),
    )
    t5 = ToyVocabularyEncoder(channels=32, length=4)
    encoder = SD3TextEncoder(clip_l, clip_g, t5)
    states, pooled, _ = encoder.encode(CAPTIONS)
    assert states.shape == (2, encoder.length, encoder.channels) == (2, 10, 32)
    assert torch.equal(states[:, :6, :8], clip_l.encode(CAPTIONS).states)
    assert torch.equal(states[:, :6, 8:24], clip_g.encode(CAPTIONS).states)
    assert (states[:, :6, 24:] == 0).all()
    assert torch.equal(states[:, 6:], t5.encode(CAPTIONS).states)
    assert pooled.shape == (2, encoder.pooled_channels) == (2, 24)


def test_identities_include_the_parts():
    small, large = ToyVocabularyEncoder(channels=8), ToyVocabularyEncoder(channels=16)
    assert FluxTextEncoder(small, large).identity != FluxTextEncoder(large, small).identity
    none = ZeroTextEncoder(length=12, channels=16)
    assert (
        SD3TextEncoder(small, small, large).identity != SD3TextEncoder(small, small, none).identity
    )


def test_clips_wider_than_t5_are_refused():
    wide = ToyVocabularyEncoder(channels=32)
    with pytest.raises(ValueError, match="together at most T5's 32 channels"):
        SD3TextEncoder(wide, wide, wide)


@pytest.mark.parametrize("config", [FluxTextConfig, SD3TextConfig])
def test_a_length_below_one_is_refused(config):
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        config(path="somewhere", length=0)


class Cutting(ToyVocabularyEncoder):
    """Encoder that cuts every caption."""

    def truncated(self, captions):
        return list(captions)


def test_captions_are_cut_where_the_longest_part_cuts_them():
    cutting, whole = Cutting(channels=8), ToyVocabularyEncoder(channels=16)
    none = ZeroTextEncoder(length=12, channels=16)
    assert FluxTextEncoder(cutting, whole).truncated(CAPTIONS) == []
    assert FluxTextEncoder(whole, cutting).truncated(CAPTIONS) == CAPTIONS
    assert SD3TextEncoder(cutting, cutting, whole).truncated(CAPTIONS) == []
    assert SD3TextEncoder(cutting, cutting, none).truncated(CAPTIONS) == CAPTIONS

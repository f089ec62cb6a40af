import torch

from harope.lab.data import CaptionedScenesDataset
from harope.lab.text import ToyVocabularyEncoder, fill_cache
from harope.lab.training.tasks.caption_embeddings import EncodedCaptions, open_states

CAPTIONS = ["a red star", "two circles"]


def encoder():
    return ToyVocabularyEncoder(channels=8, length=12)


def never():
    raise AssertionError


def test_captions_are_encoded_once(tmp_path):
    first = open_states(tmp_path / "text", CAPTIONS, encoder)
    again = open_states(tmp_path / "text", CAPTIONS, never)
    assert torch.equal(first.read(CAPTIONS).states, again.read(CAPTIONS).states)


def test_missing_captions_are_added(tmp_path):
    fill_cache(tmp_path, encoder(), CAPTIONS[:1])
    assert set(open_states(tmp_path, CAPTIONS, encoder).captions) == set(CAPTIONS)


def test_draws_hold_images_and_the_states_of_their_captions(tmp_path):
    source = CaptionedScenesDataset(8)
    images, captions = source.samples([3, 1])
    states = open_states(tmp_path, captions, encoder)
    drawn = EncodedCaptions(source, states.read).samples([3, 1])
    assert EncodedCaptions(source, states.read).shape == (3, 8, 8)
    for found, expected in zip(drawn, (images, *states.read(captions)), strict=True):
        assert torch.equal(found, expected)

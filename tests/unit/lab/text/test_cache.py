import json
import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from harope.lab.text.cache import EmbeddingCache, fill_cache
from harope.lab.text.encoder import TextEncoder
from harope.lab.text.toy_vocab import ToyVocabularyEncoder

CAPTIONS = ["a red star", "two circles", "", "a blue cross", "a green square", "stars"]


class Counting(TextEncoder):
    """Encoder that records its captions and fails at one of them."""

    def __init__(self, stop_at=None):
        self.inner = ToyVocabularyEncoder(channels=16)
        self.length, self.channels, self.pooled_channels = 12, 16, 16
        self.encoded, self.stop_at = [], stop_at

    @property
    def identity(self):
        return self.inner.identity

    def encode(self, captions):
        if self.stop_at in captions:
            raise KeyboardInterrupt
        self.encoded += captions
        return self.inner.encode(captions)


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_embeddings_are_read_as_encoded_in_any_order(tmp_path):
    encoder = ToyVocabularyEncoder()
    fill_cache(tmp_path, encoder, CAPTIONS, batch_size=2, rows_per_file=4)
    asked = [CAPTIONS[i] for i in (5, 0, 2, 0)]
    assert same(EmbeddingCache(tmp_path).read(asked), encoder.encode(asked))
    assert sorted(EmbeddingCache(tmp_path).captions) == sorted(CAPTIONS)
    assert len(EmbeddingCache(tmp_path)) == 6


def test_only_missing_captions_are_encoded_and_each_once(tmp_path):
    encoder = Counting()
    fill_cache(tmp_path, encoder, CAPTIONS[:3] + CAPTIONS[:3])
    fill_cache(tmp_path, encoder, CAPTIONS)
    assert sorted(encoder.encoded) == sorted(CAPTIONS)
    assert same(EmbeddingCache(tmp_path).read(CAPTIONS), encoder.encode(CAPTIONS))


def test_an_interrupted_cache_continues_after_the_last_file(tmp_path):
    options = {"batch_size": 1, "rows_per_file": 2}
    with pytest.raises(KeyboardInterrupt):
        fill_cache(tmp_path, Counting(stop_at="a blue cross"), CAPTIONS, **options)
    assert EmbeddingCache(tmp_path).captions == CAPTIONS[:2]
    encoder = Counting()
    fill_cache(tmp_path, encoder, CAPTIONS, **options)
    assert encoder.encoded == CAPTIONS[2:]
    assert EmbeddingCache(tmp_path).captions == CAPTIONS


def test_a_deleted_file_is_computed_again(tmp_path):
    fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS, rows_per_file=2)
    (tmp_path / "states-00000.safetensors").unlink()
    encoder = Counting()
    encoder.inner = ToyVocabularyEncoder()
    fill_cache(tmp_path, encoder, CAPTIONS, rows_per_file=2)
    assert encoder.encoded == CAPTIONS[:2]
    assert same(EmbeddingCache(tmp_path).read(CAPTIONS), ToyVocabularyEncoder().encode(CAPTIONS))


def test_embeddings_can_be_stored_in_half_precision(tmp_path):
    encoder = ToyVocabularyEncoder()
    fill_cache(tmp_path, encoder, CAPTIONS, dtype="bfloat16")
    states = EmbeddingCache(tmp_path).read(CAPTIONS)
    assert states.states.dtype == states.pooled.dtype == torch.float32
    # bfloat16 keeps eight bits.
    exact = encoder.encode(CAPTIONS)
    torch.testing.assert_close(states.states, exact.states, rtol=2**-8, atol=0)
    torch.testing.assert_close(states.pooled, exact.pooled, rtol=2**-8, atol=0)


def test_a_cache_of_another_encoder_is_refused_by_the_field_that_differs(tmp_path):
    fill_cache(tmp_path, ToyVocabularyEncoder(channels=16), CAPTIONS)
    other = ToyVocabularyEncoder(channels=24)
    message = "contains embeddings with encoder.channels 16, not 24: choose another folder"
    with pytest.raises(ValueError, match=message):
        fill_cache(tmp_path, other, CAPTIONS)
    with pytest.raises(ValueError, match=message):
        EmbeddingCache(tmp_path, other.identity)
    assert len(EmbeddingCache(tmp_path, ToyVocabularyEncoder(channels=16).identity)) == 6


def test_a_cache_of_another_dtype_is_refused(tmp_path):
    fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS)
    with pytest.raises(ValueError, match="contains embeddings with dtype 'float32', not 'float16'"):
        fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS, dtype="float16")


def test_a_missing_caption_is_named(tmp_path):
    fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS)
    with pytest.raises(ValueError, match=r"caption 'a star' is not in the cache .*: add it"):
        EmbeddingCache(tmp_path).read(["a red star", "a star"])


def test_workers_open_the_files_themselves(tmp_path):
    encoder = ToyVocabularyEncoder()
    cache = EmbeddingCache(fill_cache(tmp_path, encoder, CAPTIONS))
    cache.read(CAPTIONS)
    rows = DataLoader(CAPTIONS, batch_size=3, num_workers=1, collate_fn=cache.read)
    parts = list(rows)
    assert same(map(torch.cat, zip(*parts, strict=True)), encoder.encode(CAPTIONS))
    assert same(pickle.loads(pickle.dumps(cache)).read(CAPTIONS), encoder.encode(CAPTIONS))


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2}'])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json cannot be read .*use a new folder"):
        EmbeddingCache(tmp_path)


def test_a_folder_without_a_manifest_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no manifest\.json: pass a folder of cached"):
        EmbeddingCache(tmp_path)


@pytest.mark.parametrize("keep", [0, 40])
def test_a_damaged_file_is_named(tmp_path, keep):
    fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS)
    path = tmp_path / "states-00000.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"states-00000\.safetensors is damaged .*: delete it"):
        EmbeddingCache(tmp_path)


def test_a_file_without_captions_is_named(tmp_path):
    from safetensors.torch import save_file

    fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS)
    save_file({"states": torch.zeros(1)}, tmp_path / "states-00001.safetensors")
    with pytest.raises(ValueError, match=r"states-00001\.safetensors is damaged .*: delete it"):
        EmbeddingCache(tmp_path)


def test_the_manifest_is_plain_json(tmp_path):
    fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["encoder"] == ToyVocabularyEncoder().identity


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"rows_per_file": 0}])
def test_sizes_below_one_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match="must be at least 1"):
        fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS, **options)

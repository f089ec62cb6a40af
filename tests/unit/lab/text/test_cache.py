import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from harope.lab.text.cache import EmbeddingCache, fill_cache, is_filled
from harope.lab.text.encoder import TextEncoder, TruncationWarning, check_truncation
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


def file_of(folder, number):
    """Path of a file of the cache; the rest of its name is a digest of its captions."""
    (path,) = folder.glob(f"states-{number:05d}-*.safetensors")
    return path


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


def test_two_processes_that_fill_a_cache_at_once_keep_both_files(tmp_path):
    class Meanwhile(Counting):
        def encode(self, captions):
            # Another process encodes other captions into the same folder.
            fill_cache(tmp_path, Counting(), CAPTIONS[3:])
            return super().encode(captions)

    fill_cache(tmp_path, Meanwhile(), CAPTIONS[:3])
    assert sorted(EmbeddingCache(tmp_path).captions) == sorted(CAPTIONS)
    assert same(EmbeddingCache(tmp_path).read(CAPTIONS), Counting().encode(CAPTIONS))


def test_a_deleted_file_is_computed_again(tmp_path):
    fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS, rows_per_file=2)
    file_of(tmp_path, 0).unlink()
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
    path = file_of(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"states-00000-\w+\.safetensors is damaged .*: delete it"):
        EmbeddingCache(tmp_path)


def test_a_file_without_captions_is_named(tmp_path):
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "int8"}, "dtype"),
        ({"encoder": None}, "encoder"),
        ({"source": 3}, "source"),
        ({"version": None}, "its version is None"),
    ],
)
def test_manifests_are_validated(tmp_path, change, message):
    path = fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"manifest\.json cannot be read \(.*{message}"):
        EmbeddingCache(tmp_path)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1}', "list"),
        ("[1, 2]", r"0: .*string"),
        ('["one"]', "it has 2 rows of states of 1 captions"),
    ],
)
def test_captions_of_files_are_validated(tmp_path, captions, message):
    fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS)
    rows = ToyVocabularyEncoder().encode(["a star", "a circle"])._asdict()
    path = tmp_path / "states-00001.safetensors"
    save_file(rows, path, metadata={"captions": captions})
    with pytest.raises(ValueError, match=rf"states-00001\.safetensors is damaged .*{message}"):
        EmbeddingCache(tmp_path)


def test_a_cache_without_source_is_read_but_not_trusted(tmp_path):
    """Manifests of earlier versions have none."""
    path = fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS) / "manifest.json"
    values = json.loads(path.read_text())
    del values["source"]
    path.write_text(json.dumps(values))
    assert len(EmbeddingCache(tmp_path)) == 6
    source = {"files": "abc", "sizes": (1, 2)}
    assert not is_filled(tmp_path, CAPTIONS, source, "float32")
    fill_cache(tmp_path, ToyVocabularyEncoder(), CAPTIONS, source=source)
    assert is_filled(tmp_path, CAPTIONS, source, "float32")
    assert not is_filled(tmp_path, [*CAPTIONS, "more"], source, "float32")
    assert not is_filled(tmp_path, CAPTIONS, source | {"files": "b"}, "float32")
    assert not is_filled(tmp_path, CAPTIONS, source, "float16")
    assert not is_filled(tmp_path, CAPTIONS, None, "float32")


class Cutting(ToyVocabularyEncoder):
    """Encoder that cuts captions of more than 25 characters."""

    def truncated(self, captions):
        return [caption for caption in captions if len(caption) > 25]


def test_few_cut_captions_are_a_warning_and_many_an_error():
    captions = [f"{number} star" for number in range(2000)]
    check_truncation(Cutting(), captions)
    captions[1500] = "a picture of two big\x1b red stars"
    expected = r"1 of 2000 captions have .* the first: 'a picture of two big\\x1b red stars'"
    with pytest.warns(TruncationWarning, match=expected):
        check_truncation(Cutting(), captions)
    with pytest.raises(ValueError, match=r"more than max_truncated 0\.0001: raise the"):
        check_truncation(Cutting(), captions, 0.0001)


def test_a_refused_call_leaves_the_folder_as_it_was(tmp_path):
    with pytest.raises(ValueError, match="1 of 1 captions have more tokens"):
        fill_cache(tmp_path / "new", Cutting(), ["a picture of two red stars"])
    assert not (tmp_path / "new").exists()

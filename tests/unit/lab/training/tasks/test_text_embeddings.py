import shutil
from dataclasses import replace

import pytest
import torch

from harope.lab.data import (
    CaptionedFolderDataConfig,
    CaptionedScenesDataset,
    open_captioned_dataset,
)
from harope.lab.data.synthetic import make_captioned_folder
from harope.lab.recipes.tiny_sd3 import save_tiny_clip
from harope.lab.text import (
    PretrainedTextConfig,
    ToyVocabularyConfig,
    ToyVocabularyEncoder,
    fill_cache,
)
from harope.lab.text.encoder import TruncationWarning
from harope.lab.training.tasks.text_embeddings import (
    CaptionEmbeddingDataset,
    TextEmbeddingConfig,
    open_text_conditioning,
    open_text_embeddings,
    pack_captions,
    unpack_captions,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = save_tiny_clip(tmp_path_factory.mktemp("hub") / "clip")
    return PretrainedTextConfig(path=str(path), length=64, layer="penultimate")


@pytest.fixture
def folder(tmp_path):
    make_captioned_folder(tmp_path / "pictures", num=3, image_size=8)
    return open_captioned_dataset(
        CaptionedFolderDataConfig(root=str(tmp_path / "pictures"), image_size=8), 0
    )


def test_captions_survive_as_bytes():
    captions = ["", "größer", "a picture of a star", "日本"]
    packed = pack_captions(captions)
    assert packed.dtype == torch.uint8
    assert unpack_captions(packed) == captions


def test_no_captions_but_empty_ones_have_bytes_too():
    assert unpack_captions(pack_captions(["", ""])) == ["", ""]


def test_a_toy_vocabulary_is_looked_up_on_the_fly():
    source, text = CaptionedScenesDataset(8), ToyVocabularyConfig(channels=8)
    stream, read = open_text_conditioning(text, TextEmbeddingConfig(), source, [], CPU)
    images, captions = source.samples([4, 2])
    expected = images, *ToyVocabularyEncoder(channels=8).encode(captions)
    assert stream.shape == source.shape
    for found, value in zip(stream.samples([4, 2]), expected, strict=True):
        assert torch.equal(found, value)
    assert torch.equal(read(captions).pooled, expected[2])


def test_cached_embeddings_are_those_computed_in_each_step(clip, folder, tmp_path):
    config = TextEmbeddingConfig(folder=str(tmp_path / "text"))
    stream, read = open_text_conditioning(clip, config, folder, ["", "more"], CPU)
    written, encode = open_text_conditioning(
        clip, TextEmbeddingConfig(when="each-step"), folder, [], CPU
    )
    images, states, pooled, _ = stream.samples([2, 0])
    same, packed = written.samples([2, 0])
    encoded = encode(unpack_captions(packed))
    assert torch.equal(images, same)
    torch.testing.assert_close((states, pooled), (encoded.states, encoded.pooled))
    torch.testing.assert_close(read(["", "more"]).states, encode(["", "more"]).states)


def test_captions_of_infinite_data_cannot_be_cached(clip):
    with pytest.raises(
        ValueError, match=r"without end .*: set --states.when each-step, or --text.kind"
    ):
        open_text_conditioning(clip, TextEmbeddingConfig(), CaptionedScenesDataset(8), [], CPU)


# --- the cache


CAPTIONS = ["a red star", "two circles"]
SOURCE = {"files": "0123"}


def encoder():
    return ToyVocabularyEncoder(channels=8, length=12)


def never():
    raise AssertionError


def test_captions_are_encoded_once(tmp_path):
    first = open_text_embeddings(tmp_path / "text", CAPTIONS, SOURCE, encoder)
    again = open_text_embeddings(tmp_path / "text", CAPTIONS, SOURCE, never)
    assert torch.equal(first.read(CAPTIONS).states, again.read(CAPTIONS).states)


def test_missing_captions_are_added(tmp_path):
    fill_cache(tmp_path, encoder(), CAPTIONS[:1])
    assert set(open_text_embeddings(tmp_path, CAPTIONS, SOURCE, encoder).captions) == set(CAPTIONS)


def test_batches_hold_images_and_the_text_embeddings_of_their_captions(tmp_path):
    source = CaptionedScenesDataset(8)
    images, captions = source.samples([3, 1])
    states = open_text_embeddings(tmp_path, captions, SOURCE, encoder)
    drawn = CaptionEmbeddingDataset(source, states.read).samples([3, 1])
    assert CaptionEmbeddingDataset(source, states.read).shape == (3, 8, 8)
    for found, expected in zip(drawn, (images, *states.read(captions)), strict=True):
        assert torch.equal(found, expected)


def test_embeddings_from_another_source_are_compared(tmp_path):
    open_text_embeddings(tmp_path, CAPTIONS, SOURCE, encoder)
    open_text_embeddings(tmp_path, CAPTIONS, {"files": "copied"}, encoder)
    with pytest.raises(ValueError, match=r"contains embeddings with encoder\.channels 8, not 16"):
        open_text_embeddings(
            tmp_path, CAPTIONS, SOURCE, lambda: ToyVocabularyEncoder(channels=16, length=12)
        )
    open_text_embeddings(tmp_path, CAPTIONS, {"files": "copied"}, never)
    with pytest.raises(ValueError, match="contains embeddings with dtype 'float32', not 'float16'"):
        open_text_embeddings(tmp_path, CAPTIONS, SOURCE, encoder, dtype="float16")


def test_an_unknown_source_is_never_trusted(tmp_path):
    open_text_embeddings(tmp_path, CAPTIONS, None, encoder)
    with pytest.raises(AssertionError):
        open_text_embeddings(tmp_path, CAPTIONS, None, never)


@pytest.mark.parametrize("change", [{"pooling": "pooler"}, {"length": 20}, {"layer": "last"}])
def test_another_way_to_encode_does_not_share_the_folder(clip, folder, tmp_path, change):
    """Recipes share a default folder, so that each must notice the other's embeddings."""
    config = TextEmbeddingConfig(folder=str(tmp_path / "text"))
    open_text_conditioning(clip, config, folder, [], CPU)
    name, value = next(iter(change.items()))
    before = getattr(clip, name)
    message = rf"contains embeddings with encoder\.{name} {before!r}, not {value!r}: choose another"
    with pytest.raises(ValueError, match=message):
        open_text_conditioning(replace(clip, **change), config, folder, [], CPU)


def test_another_encoder_at_the_same_path_is_noticed(folder, tmp_path):
    config = TextEmbeddingConfig(folder=str(tmp_path / "text"))
    for seed in (0, 1):
        path = tmp_path / f"clip{seed}"
        save_tiny_clip(path, seed)
    text = PretrainedTextConfig(path=str(tmp_path / "clip"), length=64)
    (tmp_path / "clip0").rename(tmp_path / "clip")
    open_text_conditioning(text, config, folder, [], CPU)
    shutil.rmtree(tmp_path / "clip")
    (tmp_path / "clip1").rename(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"contains embeddings with encoder\.weights"):
        open_text_conditioning(text, config, folder, [], CPU)


@pytest.mark.parametrize("when", ["cached", "each-step"])
def test_captions_that_are_cut_are_counted(clip, folder, tmp_path, when):
    short = replace(clip, length=4)
    config = TextEmbeddingConfig(when=when, folder=str(tmp_path / "text"))
    message = "captions have more tokens than the text encoder reads, and are cut"
    with pytest.raises(ValueError, match=rf"3 of 3 {message}.* more than max_truncated 0\.1"):
        open_text_conditioning(short, config, folder, [], CPU)
    assert not (tmp_path / "text").exists()
    with pytest.warns(TruncationWarning, match=rf"3 of 3 {message}; the first: "):
        open_text_conditioning(short, replace(config, max_truncated=1.0), folder, [], CPU)
    # None asks for no count: a warning would be an error here.
    other = replace(config, folder=str(tmp_path / "other"), max_truncated=None)
    open_text_conditioning(short, other, folder, [], CPU)

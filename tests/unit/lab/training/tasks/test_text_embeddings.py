import pytest
import torch

from harope.lab.data import (
    CaptionedFolderDataConfig,
    CaptionedScenesDataset,
    open_captioned_dataset,
)
from harope.lab.data.synthetic import make_captioned_folder
from harope.lab.recipes.tiny_sd3 import save_random_clip
from harope.lab.text import PretrainedTextConfig, ToyVocabularyConfig, ToyVocabularyEncoder
from harope.lab.training.tasks.text_embeddings import (
    StatesConfig,
    open_text_input,
    pack_captions,
    unpack_captions,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = save_random_clip(tmp_path_factory.mktemp("hub") / "clip")
    return PretrainedTextConfig(path=str(path), length=24, layer="penultimate")


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


def test_words_of_a_closed_vocabulary_are_looked_up_as_they_are_drawn():
    source, text = CaptionedScenesDataset(8), ToyVocabularyConfig(channels=8)
    stream, read = open_text_input(text, StatesConfig(), source, [], CPU)
    images, captions = source.samples([4, 2])
    expected = images, *ToyVocabularyEncoder(channels=8).encode(captions)
    assert stream.shape == source.shape
    for found, value in zip(stream.samples([4, 2]), expected, strict=True):
        assert torch.equal(found, value)
    assert torch.equal(read(captions).pooled, expected[2])


def test_cached_states_are_those_of_each_step(clip, folder, tmp_path):
    config = StatesConfig(folder=str(tmp_path / "text"))
    stream, read = open_text_input(clip, config, folder, ["", "more"], CPU)
    written, encode = open_text_input(clip, StatesConfig(when="each-step"), folder, [], CPU)
    images, states, pooled, _ = stream.samples([2, 0])
    same, packed = written.samples([2, 0])
    encoded = encode(unpack_captions(packed))
    assert torch.equal(images, same)
    torch.testing.assert_close((states, pooled), (encoded.states, encoded.pooled))
    torch.testing.assert_close(read(["", "more"]).states, encode(["", "more"]).states)


def test_captions_without_end_cannot_be_cached(clip):
    with pytest.raises(ValueError, match=r"no end: set --states.when each-step, or --text.kind"):
        open_text_input(clip, StatesConfig(), CaptionedScenesDataset(8), [], CPU)

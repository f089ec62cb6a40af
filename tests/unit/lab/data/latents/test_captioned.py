import os

import pytest
import torch

from harope.lab.data.captioned.base import FiniteCaptionedDataset
from harope.lab.data.captioned.folder import CaptionedFolderDataConfig, open_captioned_folder
from harope.lab.data.latents.captioned import CaptionedLatentsDataset, encode_captioned
from harope.lab.data.latents.vae import encode_latents, load_vae


class Several(FiniteCaptionedDataset):
    """Images of another dataset with two captions each."""

    def __init__(self, source, word="again"):
        super().__init__(len(source), seed=0)
        self.source, self.shape, self.word = source, source.shape, word

    def images(self, indices):
        return self.source.images(indices)

    def captions(self, index):
        return [*self.source.captions(index), f"{index} {self.word} \u2028 größer"]


@pytest.fixture(scope="module")
def vae(vae_folder):
    return load_vae(vae_folder)


@pytest.fixture
def source(captioned_folder):
    config = CaptionedFolderDataConfig(root=str(captioned_folder), image_size=8)
    return Several(open_captioned_folder(config, seed=0))


@pytest.mark.parametrize("flip", [False, True])
def test_latents_keep_the_captions_of_their_images(source, vae, tmp_path, flip):
    out = tmp_path / "out"
    encode_captioned(source, vae, out, flip=flip, posterior="mode", batch_size=2, shard_size=2)
    latents = CaptionedLatentsDataset(out)
    copies = 2 if flip else 1
    assert len(latents) == 5 * copies
    everywhere = range(len(latents))
    assert [latents.captions(i) for i in everywhere] == [
        source.captions(i // copies) for i in everywhere
    ]
    expected = encode_latents(vae, source.images(range(5)))
    ours = latents.images(range(0, len(latents), copies))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert latents.shape == tuple(expected.shape[1:])


def test_samples_match_latent_and_caption(source, vae, tmp_path):
    latents = CaptionedLatentsDataset(encode_captioned(source, vae, tmp_path / "out"), seed=1)
    every = latents.images(range(5))
    drawn, captions = latents.samples(range(20))
    for latent, caption in zip(drawn, captions, strict=True):
        number = next(i for i in range(5) if torch.equal(every[i], latent))
        assert caption in source.captions(number)
    assert {caption.split()[1] == "again" for caption in captions} == {True, False}


def test_the_same_again_leaves_the_folder_as_it_is(source, vae, tmp_path):
    out = encode_captioned(source, vae, tmp_path / "out")
    before = {path: path.read_bytes() for path in out.iterdir()}
    encode_captioned(source, vae, out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_other_captions_are_refused(source, vae, tmp_path):
    out = encode_captioned(source, vae, tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"captions\.jsonl contains other captions: choose another"
    ):
        encode_captioned(Several(source.source, word="differently"), vae, out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: None, r"captions\.jsonl cannot be read"),
        (
            lambda text: text + '["more"]\n',
            r"captions\.jsonl has captions of 6 images but .* of 5 images",
        ),
        (lambda text: "[\n" + text, r"captions\.jsonl cannot be read"),
        (lambda text: "[]\n" + text, r"captions\.jsonl line 1 has no caption"),
    ],
)
def test_captions_that_do_not_fit_are_named(source, vae, tmp_path, change, message):
    path = encode_captioned(source, vae, tmp_path / "out") / "captions.jsonl"
    changed = change(path.read_text())
    path.unlink() if changed is None else path.write_text(changed)
    with pytest.raises(ValueError, match=message):
        CaptionedLatentsDataset(tmp_path / "out")


def test_a_refused_encoding_leaves_the_folder_as_it_was(captioned_folder, vae, tmp_path):
    config = CaptionedFolderDataConfig(root=str(captioned_folder), image_size=7)
    with pytest.raises(ValueError, match="the image size 7 x 7 is not a multiple"):
        encode_captioned(open_captioned_folder(config, seed=0), vae, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_images_with_the_same_captions_are_refused(captioned_folder, vae, tmp_path):
    config = CaptionedFolderDataConfig(root=str(captioned_folder), image_size=8)
    encode_captioned(open_captioned_folder(config, seed=0), vae, tmp_path / "out")
    os.utime(captioned_folder / "3.png", ns=(1, 1))
    with pytest.raises(ValueError, match=r"begun with images '\w+', not '\w+'"):
        encode_captioned(open_captioned_folder(config, seed=0), vae, tmp_path / "out")

import sys

import pytest
import torch
from diffusers import AutoencoderKL

from harope.lab.data.latents.vae import decode_latents, encode_latents, latent_shape, load_vae


@pytest.fixture(scope="module")
def vae(vae_folder):
    return load_vae(vae_folder)


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_saved_weights_are_loaded_for_evaluation(vae, vae_folder):
    theirs = AutoencoderKL.from_pretrained(vae_folder).state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in vae.state_dict().items())
    assert not vae.training


def test_a_subfolder_can_be_loaded(vae_folder):
    assert load_vae(vae_folder.parent, subfolder=vae_folder.name).config.latent_channels == 4


def test_mode_is_the_shifted_and_scaled_mean(vae, images):
    with torch.no_grad():
        mean = vae.encode(images).latent_dist.mode()
    expected = (mean - 0.1159) * 0.3611
    torch.testing.assert_close(encode_latents(vae, images), expected, rtol=0, atol=1e-6)


def test_noise_is_scaled_by_the_deviation_of_the_posterior(vae, images):
    noise = torch.randn(3, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
    expected = (posterior.mean + (0.5 * posterior.logvar).exp() * noise - 0.1159) * 0.3611
    torch.testing.assert_close(encode_latents(vae, images, noise), expected, rtol=0, atol=1e-6)


def test_decoding_undoes_shift_and_scale_and_clamps(vae, images):
    latents = encode_latents(vae, images) * 20
    with torch.no_grad():
        expected = vae.decode(latents / 0.3611 + 0.1159).sample.clamp(-1, 1)
    decoded = decode_latents(vae, latents, batch_size=2)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)
    assert decoded.shape == images.shape


def test_a_vae_of_half_precision_gives_float32(vae_folder, images):
    vae = load_vae(vae_folder).to(torch.bfloat16)
    assert decode_latents(vae, encode_latents(vae, images)).dtype == torch.float32


def test_latent_shape_matches_the_encoder(vae, images):
    assert latent_shape(vae, (3, 8, 12)) == encode_latents(vae, images).shape[1:]


def test_images_that_do_not_fit_are_refused(vae):
    with pytest.raises(ValueError, match="1 channels but the VAE expects 3"):
        latent_shape(vae, (1, 8, 8))
    with pytest.raises(
        ValueError, match="9 x 8 is not a multiple of the VAE's downsampling factor 2"
    ):
        latent_shape(vae, (3, 9, 8))


def test_missing_diffusers_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"pip install harope\[diffusers\]"):
        load_vae("somewhere")

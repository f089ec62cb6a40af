"""The tiny random FLUX pipeline."""

import torch

from harope.lab.data.latents.vae import decode_latents, encode_latents
from harope.lab.recipes.tiny_flux import identity_vae, save_tiny_flux


def pixels(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def test_latents_are_scaled_and_shifted_pixels_without_noise():
    vae, images = identity_vae(), pixels(2, 3, 6, 8)
    latents = encode_latents(vae, images, noise=torch.ones(2, 3, 6, 8))
    torch.testing.assert_close(latents, (images - 0.05) * 1.5, rtol=0, atol=3e-5)
    torch.testing.assert_close(decode_latents(vae, latents), images, rtol=0, atol=3e-5)


@torch.no_grad()
def test_in_bfloat16_too_the_latents_are_the_pixels():
    vae, images = identity_vae().bfloat16(), pixels(2, 3, 6, 8)
    there_and_back = decode_latents(vae, encode_latents(vae, images))
    assert (there_and_back - images).abs().max() < 0.02


def test_the_same_seed_gives_the_same_transformer(tmp_path):
    def weights(name, seed):
        folder = save_tiny_flux(tmp_path / name, seed=seed)
        return (folder / "transformer/diffusion_pytorch_model.safetensors").read_bytes()

    before = torch.random.get_rng_state()
    assert weights("a", 0) == weights("b", 0) != weights("c", 1)
    assert torch.equal(torch.random.get_rng_state(), before)

import torch
from diffusers import AutoencoderKL

from harope.lab.data.synthetic import make_image_folder


def test_images_become_latents_that_train_and_samples_become_images(harope, tmp_path):
    """The whole way of `imagenet-dit`, with a tiny random autoencoder in the hub's layout."""
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=[8, 16], norm_num_groups=4, latent_channels=4,
                        down_block_types=["DownEncoderBlock2D"] * 2,
                        up_block_types=["UpDecoderBlock2D"] * 2)  # fmt: skip
    vae.save_pretrained(tmp_path / "vae")
    make_image_folder(tmp_path / "images", num=10, image_size=20)
    told = harope(
        "encode", "images", "latents", "--vae", "vae", "--image-size", 16, "--flip", "--quiet"
    )
    fields = told.stdout.strip().partition("harope train imagenet-dit ")[2].split()
    assert "--data.root" in fields
    harope("train", "imagenet-dit", "--smoke", "--out", "run", "--quiet",
           "--data.features", "null", "--data.labels", "null", *fields)  # fmt: skip
    harope("sample", "run", "--count", 2, "--out", "drawn", "--vae", "vae", "--quiet")
    assert (tmp_path / "drawn/000001.png").stat().st_size > 0

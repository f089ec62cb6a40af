"""Small files and a small VAE with random weights."""

import numpy as np
import pytest
import torch

from harope.lab.data.latents.manifest import LatentSpec, Manifest
from harope.lab.data.latents.shards import LatentShardWriter

ENCODING = LatentSpec(
    vae="somewhere/vae",
    scaling_factor=0.5,
    shift_factor=0.0,
    image_size=16,
    flips=False,
    posterior="mode",
    seed=0,
)


@pytest.fixture
def write_pair(tmp_path):
    """Function that writes features and labels as .npy files and returns their paths."""

    def write(features, labels):
        paths = tmp_path / "features.npy", tmp_path / "labels.npy"
        np.save(paths[0], features)
        np.save(paths[1], labels)
        return paths

    return write


@pytest.fixture
def latents():
    """Seven latents with their labels."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(7, 4, 2, 3, generator=generator), torch.tensor([0, 2, 1, 1, 0, 2, 2])


@pytest.fixture
def manifest():
    """Manifest of the seven latents."""
    return Manifest(shape=(4, 2, 3), dtype="float32", total=7, num_classes=3, encoding=ENCODING)


@pytest.fixture
def shards(tmp_path, latents, manifest):
    """The seven latents in shards of 3, 3 and 1."""
    LatentShardWriter(tmp_path / "shards", manifest, shard_size=3).add(*latents)
    return tmp_path / "shards"


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory):
    """Folder of a random AutoencoderKL with a downsampling factor of 2."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            block_out_channels=(4, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=2,
            latent_channels=4,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        )
    folder = tmp_path_factory.mktemp("vae")
    vae.save_pretrained(folder)
    return folder


@pytest.fixture
def save_image():
    """Function that writes an image of one colour and returns its path."""

    def save(path, color=(255, 0, 0), size=(10, 8), mode="RGB"):
        from PIL import Image

        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, color).save(path)
        return path

    return save


@pytest.fixture
def captioned_folder(tmp_path, save_image):
    """Five images, whose red value encodes their number, with text files."""
    for number in range(5):
        path = save_image(tmp_path / f"captioned/{number}.png", (50 * number, 0, 0))
        path.with_suffix(".txt").write_text(f"picture {number}\n")
    return tmp_path / "captioned"

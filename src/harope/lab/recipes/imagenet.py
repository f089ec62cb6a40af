"""imagenet-dit: DiT-B/2 on latents of ImageNet, with the settings of the HARoPE paper."""

from dataclasses import replace
from pathlib import Path

from harope.diffusion import GaussianConfig
from harope.diffusion.generate import SamplingConfig
from harope.lab.data.latents.files import LatentsDataConfig
from harope.lab.data.synthetic import make_latent_pair
from harope.lab.recipes.recipe import Recipe, shrunk
from harope.lab.training.config import OptimizerConfig, TrainConfig
from harope.models.dit.config import dit_config


def imagenet_dit(image_size: int = 256) -> TrainConfig:
    """DiT-B/2, a million steps of 256, on Stable Diffusion's latents of ImageNet.

    arXiv 2510.10489, section 4: AdamW, constant rate 1e-4, no decay, EMA 0.9999; samples by 250
    DDPM steps with guidance 1.5 on three of the four channels. Latents come from `harope encode`
    into `data/imagenet{size}`; for a pair of .npy files pass `--data.root null --data.features ..
    --data.labels ..`.
    """
    return TrainConfig(
        recipe="imagenet-dit" if image_size == 256 else f"imagenet-dit-{image_size}",
        model=dit_config("DiT-B/2", in_channels=4, num_classes=1000),
        data=LatentsDataConfig(root=f"data/imagenet{image_size}", num_classes=1000),
        diffusion=GaussianConfig(),
        sampling=SamplingConfig(
            sampler="ancestral", num_steps=250, guidance=1.5, guidance_channels=3
        ),
        optimizer=OptimizerConfig(lr=1e-4),
        steps=1_000_000,
        batch_size=256,
        ema_decay=0.9999,
        precision="bf16",
        num_workers=8,
        log_every=100,
        checkpoint_every=10_000,
        sample_every=50_000,
        num_samples=16,
    )


def _recipe(image_size: int) -> Recipe:
    config = imagenet_dit(image_size)

    def smoke(folder: Path) -> TrainConfig:
        shape = (4, image_size // 32, image_size // 32)
        features, labels = make_latent_pair(folder, num=16, shape=shape, num_classes=10)
        data = LatentsDataConfig(features=str(features), labels=str(labels), num_classes=1000)
        return replace(shrunk(config), data=data)

    return Recipe(
        name=config.recipe,
        summary=f"DiT-B/2, latents of ImageNet at {image_size} pixels, DDPM: the paper's settings",
        config=lambda: config,
        smoke=smoke,
    )


RECIPES = tuple(_recipe(size) for size in (256, 128, 512))

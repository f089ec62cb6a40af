"""imagenet-dit: DiT-B/2 on ImageNet latents, with the settings of the HARoPE paper."""

from dataclasses import replace
from pathlib import Path

from harope.diffusion import GaussianConfig
from harope.diffusion.generate import SamplingConfig
from harope.lab.data.latents.files import LatentsDataConfig
from harope.lab.data.synthetic import make_latent_pair
from harope.lab.recipes.recipe import Recipe, shrink_dit
from harope.lab.training.optim import OptimizerConfig
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.models.dit.config import dit_config


def imagenet_dit(image_size: int = 256) -> TrainConfig:
    """Train DiT-B/2 on Stable Diffusion latents of ImageNet: a million steps, batches of 256.

    Settings of arXiv 2510.10489, section 4: AdamW, constant learning rate 1e-4, no weight decay,
    EMA 0.9999; 250 DDPM steps with guidance 1.5 on three of the four channels.

    Latents are read from `data/imagenet{image_size}`, which `harope encode` writes. To use two .npy
    files, pass `--data.root null --data.features FILE --data.labels FILE`.

    Args:
        image_size: Side of the images in pixels.

    Returns:
        The full configuration.
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

    def smoke_data(folder: Path) -> None:
        shape = (4, image_size // 32, image_size // 32)
        make_latent_pair(folder, num=16, shape=shape, num_classes=10)

    def smoke_config(folder: Path) -> TrainConfig:
        features, labels = (str(folder / f"{name}.npy") for name in ("features", "labels"))
        data = LatentsDataConfig(features=features, labels=labels, num_classes=1000)
        return replace(shrink_dit(config), data=data)

    return Recipe(
        name=config.recipe,
        summary=f"DiT-B/2, ImageNet latents at {image_size} pixels, DDPM: the paper's settings",
        config=lambda: config,
        smoke_config=smoke_config,
        smoke_data=smoke_data,
        data_side=image_size // 8,
    )


RECIPES = tuple(_recipe(size) for size in (256, 128, 512))
